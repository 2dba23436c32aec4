/** A site whose agent is a key provider, and Debian's tools with the configuration that their users write. */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { openLayout } from '#src/store/layout.ts';
import type { AgentConfigFile } from '../../shim/agent/agent-config.ts';
import { LabContainerd } from '../../lab/containerd.ts';
import { writeImage } from '../../lab/image-builder.ts';
import { type PeerTool, peerTool, peerToolsSkipReason } from '../../lab/peer-tools.ts';
import { SLEEP_COMMAND } from '../../lab/site.ts';
import { GatedSite, PRODUCT, secretLayer, siteSkipReason } from '../e2e/gated-site.ts';

const run = promisify(execFile);
const LATCHKEY = join(import.meta.dirname, '..', '..', 'cli', 'latchkey.js');

export interface ToolResult {
  readonly status: number;
  readonly output: string;
}

/** Why these tests cannot run here; undefined where they can. */
export function providerSkipReason(): string | undefined {
  return siteSkipReason() ?? peerToolsSkipReason('skopeo', 'buildah', 'podman', 'ctd-decoder');
}

export class ProviderSite {
  readonly gated: GatedSite;
  /** For everything that is not the site's. */
  readonly directory: string;
  readonly socket: string;

  private constructor(gated: GatedSite, directory: string, socket: string) {
    this.gated = gated;
    this.directory = directory;
    this.socket = socket;
  }

  static async start(settings: Partial<AgentConfigFile> = {}): Promise<ProviderSite> {
    const directory = await mkdtemp(join(tmpdir(), 'lk-p-'));
    const socket = join(directory, 'key-provider.sock');
    const gated = await GatedSite.start({ agentSettings: { key_provider: { socket }, ...settings } });
    const site = new ProviderSite(gated, directory, socket);
    const program = { path: process.execPath, args: [LATCHKEY, 'keyprovider', '--socket', socket] };
    await site.#configure('cmd', { cmd: program });
    await site.#configure('grpc', { grpc: `unix://${socket}` });
    await mkdir(join(directory, 'storage'));
    await writeFile(join(directory, 'policy.json'), '{"default":[{"type":"insecureAcceptAnything"}]}');
    return site;
  }

  at(name: string): string {
    return join(this.directory, name);
  }

  /** A plain image in a layout, its layers made for this test alone. */
  async plainImage(name: string): Promise<string> {
    const { site } = this.gated;
    const layers = [site.baseLayer, await secretLayer('one'), await secretLayer(name)];
    await writeImage(openLayout(this.at(name)), '1', { layers, command: SLEEP_COMMAND });
    return `oci:${this.at(name)}:1`;
  }

  /** What a release pipeline does with stock skopeo; gives the reference of the registered image. */
  async releaseWithSkopeo(name: string): Promise<string> {
    const plain = await this.plainImage(name);
    const key = this.at(`${name}.key`);
    await this.latchkey('image-key', 'create', '--product', PRODUCT, '--out', key);
    const image = this.gated.site.reference(name);
    const encryption = ['--encryption-key', `provider:latchkey:image-key=${key}`];
    const copied = await this.tool('cmd', 'skopeo', 'copy', ...encryption, plain, `docker://${image}`);
    if (copied.status !== 0) throw new Error(copied.output);
    await this.latchkey('release', 'register', '--image-key', key, await this.pinned(image));
    return image;
  }

  /** An image as a pipeline names it that has kept the digest of what it pushed. */
  async pinned(image: string): Promise<string> {
    const inspected = await this.latchkey('inspect', `docker://${image}`, '--json');
    return `docker://${image}@${(JSON.parse(inspected) as { digest: string }).digest}`;
  }

  /** The latchkey command as a release engineer has it set up; throws when it fails. */
  async latchkey(...args: string[]): Promise<string> {
    const { adminUrl, adminToken } = this.gated.site.keyServer;
    const OCICRYPT_KEYPROVIDER_CONFIG = this.at('grpc.json');
    const env = {
      ...process.env,
      LATCHKEY_SERVER: adminUrl,
      LATCHKEY_TOKEN: adminToken,
      OCICRYPT_KEYPROVIDER_CONFIG,
    };
    return (await run(process.execPath, [LATCHKEY, ...args], { env })).stdout;
  }

  /** One of Debian's tools with a key provider configuration, on storage of its own. */
  async tool(transport: 'cmd' | 'grpc', name: PeerTool, ...args: string[]): Promise<ToolResult> {
    const policy = ['--signature-policy', this.at('policy.json')];
    const storage = ['--root', this.at('storage/root'), '--runroot', this.at('storage/run')];
    storage.push('--storage-driver', 'vfs');
    const [verb = '', ...rest] = args;
    const command =
      name === 'skopeo'
        ? ['--policy', this.at('policy.json'), verb, ...insecure(verb), ...rest]
        : [...storage, verb, ...(verb === 'images' ? [] : [...policy, '--tls-verify=false']), ...rest];
    const env = { ...process.env, OCICRYPT_KEYPROVIDER_CONFIG: this.at(`${transport}.json`) };
    try {
      const { stdout, stderr } = await run(peerTool(name), command, { env });
      return { status: 0, output: `${stdout}${stderr}` };
    } catch (error) {
      const failed = error as { code?: number; stdout?: string; stderr?: string };
      return { status: failed.code ?? 1, output: `${failed.stdout ?? ''}${failed.stderr ?? ''}` };
    }
  }

  /** A containerd without our snapshotter, set up for ctd-decoder as its documentation says. */
  async startStockContainerd(): Promise<LabContainerd> {
    const decoder = (type: string) => ({
      accepts: [`application/vnd.oci.image.layer.v1.${type}+encrypted`],
      returns: `application/vnd.oci.image.layer.v1.${type}`,
      path: peerTool('ctd-decoder'),
      env: [`OCICRYPT_KEYPROVIDER_CONFIG=${this.at('grpc.json')}`],
    });
    const containerd = new LabContainerd({
      directory: this.at('stock'),
      sandboxImage: this.gated.site.reference('pause'),
      streamProcessors: {
        'io.containerd.ocicrypt.decoder.v1.tar.gzip': decoder('tar+gzip'),
        'io.containerd.ocicrypt.decoder.v1.tar': decoder('tar'),
      },
    });
    await containerd.start();
    return containerd;
  }

  async stop(): Promise<void> {
    await this.gated.stop();
    await rm(this.directory, { recursive: true, force: true });
  }

  async #configure(transport: string, provider: object): Promise<void> {
    const config = JSON.stringify({ 'key-providers': { latchkey: provider } });
    await writeFile(this.at(`${transport}.json`), config);
  }
}

function insecure(verb: string): string[] {
  return verb === 'copy' ? ['--src-tls-verify=false', '--dest-tls-verify=false'] : [];
}
