/**
 * A whole small world for one test or demo: registry, key server, containerd and agent, all of their own, all
 * below one directory, all stopped together.
 */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { openRegistry } from '#src/registry/registry-store.ts';
import { parseReference } from '#src/oci/reference.ts';
import { copyImage } from '#src/store/copy.ts';
import { openLayout } from '#src/store/layout.ts';
import { AdminClient } from '../cli/admin-client.ts';
import { LabContainerd, removeLabDirectory } from './containerd.ts';
import type { ContainerdVersion } from './containerd-versions.ts';
import { CriClient } from './cri-client.ts';
import { unpackDebianPackages } from './debian-files.ts';
import { type DockerRegistry, startDockerRegistry } from './docker-registry.ts';
import { writeImage } from './image-builder.ts';
import { type TestKeyServer, keptAddresses, startKeyServer } from './keyserver.ts';
import { type BuiltLayer, layerFromDirectory } from './layer-archive.ts';
import { LabAgent } from './node-agent.ts';
import { stopAll } from './stop-all.ts';

/** Downloaded packages are kept between runs. */
export const PACKAGE_CACHE = join(import.meta.dirname, '..', '.cache', 'debian-packages');

/** Runs until it is stopped. */
export const SLEEP_COMMAND = ['/bin/busybox', 'sleep', '3600'];

export interface SiteOptions {
  /** See LabAgent. */
  readonly agentProgram?: Pick<ConstructorParameters<typeof LabAgent>[0], 'command' | 'env'>;
  readonly agentSettings?: ConstructorParameters<typeof LabAgent>[0]['settings'];
  /** Debian 12's unless another is named. */
  readonly containerd?: ContainerdVersion;
  /** See LabContainerd. */
  readonly pullsOverTransfer?: boolean;
  /** Something between containerd and the agent: passes calls on from the second socket to the first. */
  readonly snapshotterProxy?: (snapshotterSocket: string, proxySocket: string) => Promise<void>;
  /** Is given the directory of it all before anything is in it; what it mounts below goes with the site. */
  readonly prepare?: (directory: string) => void;
}

export class Site {
  readonly directory: string;
  readonly registry: DockerRegistry;
  readonly containerd: LabContainerd;
  readonly agent: LabAgent;
  readonly cri: CriClient;
  readonly baseLayer: BuiltLayer;
  keyServer: TestKeyServer;

  private constructor(
    parts: Pick<Site, 'directory' | 'registry' | 'containerd' | 'agent' | 'cri' | 'baseLayer' | 'keyServer'>,
  ) {
    this.directory = parts.directory;
    this.registry = parts.registry;
    this.containerd = parts.containerd;
    this.agent = parts.agent;
    this.cri = parts.cri;
    this.baseLayer = parts.baseLayer;
    this.keyServer = parts.keyServer;
  }

  /** Starts everything; what has started is stopped again when a part does not. */
  static async start(options: SiteOptions = {}): Promise<Site> {
    // Short, because socket paths have at most 107 bytes.
    const directory = await mkdtemp(join(tmpdir(), 'lk-'));
    let undo: (() => Promise<unknown>)[] = [() => removeLabDirectory(directory)];
    try {
      options.prepare?.(directory);
      const registry = await startDockerRegistry();
      undo = [() => registry.stop(), ...undo];
      const keyServer = await startKeyServer({
        args: ['--organization', 'Acme', ...(await keptAddresses())],
      });
      undo = [() => keyServer.dispose(), ...undo];
      const [site, startProxy] = await Site.#assemble(directory, registry, keyServer, options);
      undo = [() => site.stop()];
      await site.publish('pause', '1', [site.baseLayer]);
      await site.agent.start();
      await startProxy();
      await site.containerd.start();
      return site;
    } catch (error) {
      await stopAll(...undo);
      throw error;
    }
  }

  /** All parts, of which two run. Gives beside them what starts the proxy, once the agent runs. */
  static async #assemble(
    directory: string,
    registry: DockerRegistry,
    keyServer: TestKeyServer,
    options: SiteOptions,
  ): Promise<[Site, () => Promise<void>]> {
    const authorityFile = join(directory, 'authority.pem');
    await writeFile(authorityFile, keyServer.authorityPem);
    const containerdDirectory = join(directory, 'c');
    const agent = new LabAgent({
      directory: join(directory, 'a'),
      containerdAddress: join(containerdDirectory, 'containerd.sock'),
      keyServer: keyServer.nodeAddress,
      enrollment: keyServer.enrollAddress,
      authorityFile,
      settings: options.agentSettings ?? {},
      ...options.agentProgram,
    });
    const snapshotterSocket =
      options.snapshotterProxy === undefined ? agent.paths.snapshotterSocket : join(directory, 'proxy.sock');
    const containerd = new LabContainerd({
      directory: containerdDirectory,
      sandboxImage: `${registry.host}/pause:1`,
      mode: options.agentSettings?.mode ?? 'snapshotter',
      agent: {
        snapshotterSocket,
        processorProgram: agent.paths.processorProgram,
        stateDirectory: agent.stateDirectory,
      },
      ...(options.containerd === undefined ? {} : { version: options.containerd }),
      pullsOverTransfer: options.pullsOverTransfer === true,
    });
    const site = new Site({
      directory,
      registry,
      containerd,
      agent,
      cri: new CriClient(containerd.address),
      baseLayer: await busyboxLayer(join(directory, 'busybox')),
      keyServer,
    });
    const startProxy = async () =>
      options.snapshotterProxy?.(agent.paths.snapshotterSocket, snapshotterSocket);
    return [site, startProxy];
  }

  /** The key server's admin API, with the first token. */
  get api(): AdminClient {
    return new AdminClient({ serverUrl: this.keyServer.adminUrl, token: this.keyServer.adminToken });
  }

  /** Reference of an image in the site's registry. */
  reference(name: string, tag = '1'): string {
    return `${this.registry.host}/${name}:${tag}`;
  }

  /** Directory of an image layout of the site. */
  layout(name: string): string {
    return join(this.directory, 'layouts', name);
  }

  /** Builds a plain image into the layout of its name and pushes it. */
  async publish(name: string, tag: string, layers: readonly BuiltLayer[]): Promise<void> {
    await mkdir(join(this.directory, 'layouts'), { recursive: true });
    await writeImage(openLayout(this.layout(name)), tag, { layers, command: SLEEP_COMMAND });
    await this.push(name, tag);
  }

  /** Pushes an image from the layout of its name. */
  async push(name: string, tag: string): Promise<void> {
    await this.pushAs(name, tag, name, tag);
  }

  /** Pushes an image from the layout of a name under another name. */
  async pushAs(layout: string, layoutTag: string, name: string, tag = '1'): Promise<void> {
    const destination = openRegistry(parseReference(this.reference(name, tag)));
    await copyImage(openLayout(this.layout(layout)), destination, { reference: layoutTag, tag });
  }

  /** Starts the key server again on its data and its ports. */
  async restartKeyServer(): Promise<void> {
    const { dataDirectory, nodeAddress, enrollAddress } = this.keyServer;
    const args = ['--node-listen', nodeAddress, '--enroll-listen', enrollAddress];
    this.keyServer = await startKeyServer({ dataDirectory, args });
  }

  async stop(): Promise<void> {
    this.cri.close();
    await stopAll(
      () => this.containerd.stop(),
      () => this.agent.stop(),
      () => this.keyServer.dispose(),
      () => this.registry.stop(),
      () => removeLabDirectory(this.directory),
    );
  }
}

async function busyboxLayer(directory: string): Promise<BuiltLayer> {
  await unpackDebianPackages(['busybox-static'], PACKAGE_CACHE, directory);
  await symlink('busybox', join(directory, 'bin', 'sh'));
  const layer = await layerFromDirectory(directory);
  await rm(directory, { recursive: true });
  return layer;
}

/**
 * Files below a directory, on whatever filesystem, that contain a text.
 * @param scope `disk` leaves out what is mounted below, as plaintext stores are; `mounts` looks there as well
 */
export async function filesContaining(
  directories: readonly string[],
  text: string,
  scope: 'disk' | 'mounts' = 'disk',
): Promise<string[]> {
  const run = promisify(execFile);
  const found = await Promise.all(
    directories.map(async (directory) => {
      const find = [
        '-c',
        `find "$1" ${scope === 'disk' ? '-xdev' : ''} -type f -print0 | xargs -0 -r grep -l -F -e "$2" -- || true`,
        'sh',
        directory,
        text,
      ];
      const { stdout } = await run('sh', find, { maxBuffer: 64 * 1024 * 1024 });
      return stdout.split('\n').filter((line) => line !== '');
    }),
  );
  return found.flat();
}
