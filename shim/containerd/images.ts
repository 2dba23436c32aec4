/** containerd's images: names that stand for a manifest or an index, as the clients of the node gave them. */
import type { Digest } from '#src/oci/digest.ts';
import { isDigest } from '#src/oci/digest.ts';
import { isNotFound } from './content.ts';
import type { ContainerdConnection } from './connection.ts';

export interface NamedImage {
  readonly name: string;
  readonly target: Digest;
  readonly mediaType: string;
}

/** The image of a name; undefined when the namespace has none. */
export async function findImage(
  containerd: ContainerdConnection,
  namespace: string,
  name: string,
): Promise<NamedImage | undefined> {
  const { images } = containerd.clients;
  try {
    const { image } = await containerd.call(images.get.bind(images), { name }, namespace);
    return image === undefined ? undefined : toNamedImage(image);
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

/** Every image of a namespace. */
export async function listImages(containerd: ContainerdConnection, namespace: string): Promise<NamedImage[]> {
  const { images } = containerd.clients;
  const answer = await containerd.call(images.list.bind(images), { filters: [] }, namespace);
  return answer.images.flatMap((image) => toNamedImage(image) ?? []);
}

function toNamedImage({
  name,
  target,
}: {
  readonly name: string;
  readonly target: { readonly digest: string; readonly mediaType: string } | undefined;
}): NamedImage | undefined {
  if (!isDigest(target?.digest)) return undefined;
  return { name, target: target.digest, mediaType: target.mediaType };
}
