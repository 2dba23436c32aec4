/**
 * Images that CRI has lost sight of. When containerd starts, CRI looks in the snapshotter for each image, and leaves out those
 * it gets no answer for: a kubelet then has to pull them again, which without a registry it cannot. CRI takes an image up
 * again when containerd tells of a change of it.
 */
import { status as grpcStatus } from '@grpc/grpc-js';
import { type ContainerdConnection, answeredStatus } from './connection.ts';

/** Where CRI has its images. */
const CRI_NAMESPACE = 'k8s.io';
/** CRI's own mark of the images it knows; to set it again changes nothing else. */
const CRI_LABEL = 'io.cri-containerd.image';
const RETRY_MS = 500;

/**
 * Has CRI look once at each image that it does not know: as soon as it answers, so after it has looked by itself.
 * @param onReminded told how many there were
 * @returns ends it
 */
export function remindOfImages(
  containerd: ContainerdConnection,
  onReminded: (count: number) => void,
): () => void {
  let timer: NodeJS.Timeout | undefined;
  let isStopped = false;
  const attempt = async (): Promise<void> => {
    try {
      const count = await touchForgotten(containerd);
      if (count > 0) onReminded(count);
    } catch (error) {
      // A containerd without CRI has forgotten nothing; any other may still be starting.
      if (isStopped || answeredStatus(error) === grpcStatus.UNIMPLEMENTED) return;
      timer = setTimeout(() => void attempt(), RETRY_MS).unref();
    }
  };
  void attempt();
  return () => {
    isStopped = true;
    clearTimeout(timer);
  };
}

async function touchForgotten(containerd: ContainerdConnection): Promise<number> {
  const { criImages, images } = containerd.clients;
  const known = await containerd.call(criImages.listImages.bind(criImages), {}, '');
  const names = new Set(
    known.images.flatMap(({ id, repoTags, repoDigests }) => [id, ...repoTags, ...repoDigests]),
  );
  const all = await containerd.call(images.list.bind(images), { filters: [] }, CRI_NAMESPACE);
  const forgotten = all.images.filter(({ name }) => !names.has(name));
  for (const image of forgotten) {
    const labels = { ...image.labels, [CRI_LABEL]: 'managed' };
    const request = { image: { ...image, labels }, updateMask: [`labels.${CRI_LABEL}`] };
    await containerd.call(images.update.bind(images), request, CRI_NAMESPACE);
  }
  return forgotten.length;
}
