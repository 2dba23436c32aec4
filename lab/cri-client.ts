/** What a kubelet does to a container runtime, in the few calls the demo and the tests need. */
import { Metadata, type ServiceError, credentials, status } from '@grpc/grpc-js';
import {
  type ContainerStatus,
  ImageServiceClient,
  NamespaceMode,
  type PodSandboxConfig,
  RuntimeServiceClient,
} from '#src/wire/generated/cri/runtime.ts';
import { callUnary } from '#src/wire/unary.ts';

const CALL_TIMEOUT_MS = 120_000;
const HOST_NAMESPACES = {
  network: NamespaceMode.NODE,
  pid: NamespaceMode.POD,
  ipc: NamespaceMode.POD,
} as const;

export interface RunningPod {
  readonly sandboxId: string;
  readonly containerId: string;
}

export class CriClient {
  readonly #images: ImageServiceClient;
  readonly #runtime: RuntimeServiceClient;

  constructor(address: string) {
    const options = { 'grpc.default_authority': 'localhost' };
    this.#images = new ImageServiceClient(`unix://${address}`, credentials.createInsecure(), options);
    this.#runtime = new RuntimeServiceClient(`unix://${address}`, credentials.createInsecure(), options);
  }

  /** True once the runtime takes calls. */
  isReady(): Promise<boolean> {
    return this.containerStatus('none').then(
      () => true,
      (error: unknown) => (error as Partial<ServiceError>).code === status.NOT_FOUND,
    );
  }

  /** @param runtimeClass of the pod that it is for */
  async pullImage(image: string, runtimeClass = ''): Promise<string> {
    const sandboxConfig = runtimeClass === '' ? undefined : sandbox('pull', runtimeClass);
    const request = { image: { image }, sandboxConfig };
    return (await this.#call(this.#images.pullImage.bind(this.#images), request)).imageRef;
  }

  async removeImage(image: string): Promise<void> {
    await this.#call(this.#images.removeImage.bind(this.#images), { image: { image } });
  }

  /** A sandbox on the host's network, so that no network plugin is needed. */
  async runPodSandbox(name: string, runtimeClass = ''): Promise<string> {
    const answer = await this.#call(this.#runtime.runPodSandbox.bind(this.#runtime), {
      config: sandbox(name, runtimeClass),
      runtimeHandler: runtimeClass,
    });
    return answer.podSandboxId;
  }

  async createContainer(
    sandboxId: string,
    name: string,
    image: string,
    command: string[] = [],
    attempt = 0,
    imageVolumes: Readonly<Record<string, string>> = {},
  ): Promise<string> {
    const answer = await this.#call(this.#runtime.createContainer.bind(this.#runtime), {
      podSandboxId: sandboxId,
      sandboxConfig: sandbox(name),
      config: {
        metadata: { name, attempt },
        image: { image },
        command,
        args: [],
        mounts: Object.entries(imageVolumes).map(([containerPath, volume]) => ({
          containerPath,
          readonly: true,
          image: { image: volume },
        })),
        logPath: '',
        stdin: false,
        linux: { securityContext: { namespaceOptions: HOST_NAMESPACES } },
      },
    });
    return answer.containerId;
  }

  async startContainer(containerId: string): Promise<void> {
    await this.#call(this.#runtime.startContainer.bind(this.#runtime), { containerId });
  }

  async stopContainer(containerId: string): Promise<void> {
    await this.#call(this.#runtime.stopContainer.bind(this.#runtime), { containerId, timeout: 1 });
  }

  async removeContainer(containerId: string): Promise<void> {
    await this.#call(this.#runtime.removeContainer.bind(this.#runtime), { containerId });
  }

  async execSync(containerId: string, command: string[]): Promise<{ exitCode: number; output: string }> {
    const answer = await this.#call(this.#runtime.execSync.bind(this.#runtime), {
      containerId,
      cmd: command,
      timeout: 10,
    });
    return { exitCode: answer.exitCode, output: `${answer.stdout.toString()}${answer.stderr.toString()}` };
  }

  async containerState(containerId: string): Promise<number | undefined> {
    return (await this.containerStatus(containerId))?.state;
  }

  async containerStatus(containerId: string): Promise<ContainerStatus | undefined> {
    const answer = await this.#call(this.#runtime.containerStatus.bind(this.#runtime), { containerId });
    return answer.status;
  }

  /** What a kubelet reads every few seconds, of one container, of all, and of the images. */
  async readStatistics(containerId: string): Promise<void> {
    await this.#call(this.#runtime.containerStats.bind(this.#runtime), { containerId });
    await this.#call(this.#runtime.listContainerStats.bind(this.#runtime), {});
    await this.#call(this.#images.imageFsInfo.bind(this.#images), {});
  }

  /** Sandbox, container, start: what a kubelet does for a pod of one container. */
  async runPod(name: string, image: string, command: string[] = [], runtimeClass = ''): Promise<RunningPod> {
    const sandboxId = await this.runPodSandbox(name, runtimeClass);
    try {
      const containerId = await this.createContainer(sandboxId, name, image, command);
      await this.startContainer(containerId);
      return { sandboxId, containerId };
    } catch (error) {
      await this.removePod(sandboxId);
      throw error;
    }
  }

  async removePod(sandboxId: string): Promise<void> {
    await this.#call(this.#runtime.stopPodSandbox.bind(this.#runtime), { podSandboxId: sandboxId });
    await this.#call(this.#runtime.removePodSandbox.bind(this.#runtime), { podSandboxId: sandboxId });
  }

  close(): void {
    this.#images.close();
    this.#runtime.close();
  }

  #call<Request, Response>(
    method: Parameters<typeof callUnary<Request, Response>>[0],
    request: Request,
  ): Promise<Response> {
    return callUnary(method, request, new Metadata(), { deadline: Date.now() + CALL_TIMEOUT_MS });
  }
}

/** CRI on containerd reads the class from the pod's annotations as well, because a pull names no handler. */
const HANDLER_ANNOTATION = 'io.containerd.cri.runtime-handler';

function sandbox(name: string, runtimeClass = ''): PodSandboxConfig {
  return {
    metadata: { name, uid: `${name}-uid`, namespace: 'default', attempt: 0 },
    // On the host's network a sandbox has the host's name.
    hostname: '',
    logDirectory: '',
    annotations: runtimeClass === '' ? {} : { [HANDLER_ANNOTATION]: runtimeClass },
    linux: { cgroupParent: '', securityContext: { namespaceOptions: HOST_NAMESPACES } },
  };
}
