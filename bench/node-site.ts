/**
 * A node to measure on: ours, one that runs plain images on containerd's own overlayfs snapshotter, and one whose encrypted
 * layers ctd-decoder opens, all on the same kind of filesystem, so that only the gate makes the difference.
 */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { executableName } from '../deploy/distribution.ts';
import { LabContainerd } from '../lab/containerd.ts';
import { CriClient } from '../lab/cri-client.ts';
import { builtDistribution } from '../lab/distribution.ts';
import type { BuiltLayer } from '../lab/layer-archive.ts';
import { peerTool } from '../lab/peer-tools.ts';
import { releaseImage } from '../lab/release.ts';
import { Site } from '../lab/site.ts';
import { stopAll } from '../lab/stop-all.ts';

const run = promisify(execFile);
const PRODUCT = 'bench';
const HOST = process.arch === 'arm64' ? 'arm64' : 'x64';

export class NodeSite {
  readonly site: Site;
  readonly stock: LabContainerd;
  readonly stockCri: CriClient;
  readonly peer: LabContainerd;
  readonly peerCri: CriClient;

  private constructor(site: Site, stock: LabContainerd, peer: LabContainerd) {
    this.site = site;
    this.stock = stock;
    this.stockCri = new CriClient(stock.address);
    this.peer = peer;
    this.peerCri = new CriClient(peer.address);
  }

  /** Everything started, the node activated. */
  static async start(): Promise<NodeSite> {
    // As customers run it.
    const program = join(await builtDistribution(HOST), executableName(HOST));
    const site = await Site.start({ agentProgram: { command: [program, 'node', 'run', '--config'] } });
    const sandboxImage = site.reference('pause');
    const stock = new LabContainerd({ directory: `${site.directory}/s`, sandboxImage });
    const decoder = (type: string) => ({
      accepts: [`application/vnd.oci.image.layer.v1.${type}+encrypted`],
      returns: `application/vnd.oci.image.layer.v1.${type}`,
      path: peerTool('ctd-decoder'),
      args: ['--decryption-keys-path', keyDirectory(site)],
    });
    const peer = new LabContainerd({
      directory: `${site.directory}/p`,
      sandboxImage,
      streamProcessors: {
        'io.containerd.ocicrypt.decoder.v1.tar.gzip': decoder('tar+gzip'),
        'io.containerd.ocicrypt.decoder.v1.tar': decoder('tar'),
      },
    });
    const node = new NodeSite(site, stock, peer);
    try {
      await makePeerKey(site);
      await stock.start();
      await peer.start();
      await node.#activate();
      return node;
    } catch (error) {
      await node.stop();
      throw error;
    }
  }

  /** Pushes an image plain (`NAME-plain`), gated (`NAME`) and encrypted for the peer (`NAME-peer`), on the base. */
  async publish(name: string, layers: readonly BuiltLayer[]): Promise<void> {
    const { site } = this;
    await site.publish(`${name}-plain`, '1', [site.baseLayer, ...layers]);
    const positions = layers.map((_, index) => index + 1);
    await releaseImage(site.api, {
      layoutDirectory: site.layout(`${name}-plain`),
      tag: '1',
      outputDirectory: site.layout(name),
      outputTag: '1',
      productCode: PRODUCT,
      selection: { kind: 'layers', positions },
    });
    await site.push(name, '1');
    const encryption = positions.flatMap((position) => ['--encrypt-layer', String(position)]);
    const key = `jwe:${join(keyDirectory(site), '..', 'peer.pub.pem')}`;
    const source = `oci:${site.layout(`${name}-plain`)}:1`;
    const target = `docker://${site.reference(`${name}-peer`)}`;
    await run(peerTool('skopeo'), [
      ...['copy', '--insecure-policy', '--dest-tls-verify=false', '--encryption-key', key],
      ...[...encryption, source, target],
    ]);
  }

  async stop(): Promise<void> {
    this.stockCri.close();
    this.peerCri.close();
    await stopAll(
      () => this.stock.stop(),
      () => this.peer.stop(),
      () => this.site.stop(),
    );
  }

  async #activate(): Promise<void> {
    const { site } = this;
    await site.api.createProduct({ code: PRODUCT, name: 'Benchmark' });
    await site.api.createCustomer({ name: PRODUCT });
    const { licenseKey } = await site.api.createLicense({ customer: PRODUCT, product: PRODUCT });
    const agent = site.agent.connect();
    await agent.activate(licenseKey);
    agent.close();
  }
}

/** Pulls an image and removes it again; gives how long the pull took. */
export async function pullOnce(cri: CriClient, image: string): Promise<number> {
  const startedMs = performance.now();
  await cri.pullImage(image);
  const elapsedMs = performance.now() - startedMs;
  await cri.removeImage(image);
  return elapsedMs;
}

/** Creates and starts a container, then removes it; gives how long create and start took. */
export async function startOnce(cri: CriClient, sandboxId: string, image: string): Promise<number> {
  const startedMs = performance.now();
  const containerId = await cri.createContainer(sandboxId, `bench-${randomBytes(4).toString('hex')}`, image);
  await cri.startContainer(containerId);
  const elapsedMs = performance.now() - startedMs;
  await cri.stopContainer(containerId);
  await cri.removeContainer(containerId);
  return elapsedMs;
}

/** Only keys may lie in it: the peer refuses to start with anything else there. */
function keyDirectory(site: Site): string {
  return join(site.directory, 'peer-keys', 'private');
}

async function makePeerKey(site: Site): Promise<void> {
  const directory = keyDirectory(site);
  await mkdir(directory, { recursive: true });
  const key = join(directory, 'peer.pem');
  await run('openssl', ['genpkey', '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048', '-out', key]);
  await run('openssl', ['pkey', '-in', key, '-pubout', '-out', join(directory, '..', 'peer.pub.pem')]);
}
