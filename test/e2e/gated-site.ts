/** The world of the end-to-end tests: a site with a product, a plain image and an encrypted one on its base. */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Descriptor } from '#src/oci/descriptor.ts';
import { digestOf } from '#src/oci/digest.ts';
import type { Compression } from '#src/oci/media-types.ts';
import { copyBlobs } from '#src/store/copy.ts';
import type { AgentConnection } from '#src/wire/agent-connection.ts';
import type { CreatedLicense, LicenseRequest } from '#src/wire/admin/license.ts';
import { readImageGraph } from '#src/image/image-graph.ts';
import { openLayout } from '#src/store/layout.ts';
import { SLEEP_COMMAND, Site, type SiteOptions } from '../../lab/site.ts';
import { type BuiltLayer, layerFromFiles } from '../../lab/layer-archive.ts';
import { writeImage } from '../../lab/image-builder.ts';
import { type Release, releaseImage } from '../../lab/release.ts';

export const CONTACT = 'sales@acme.example';
export const PRODUCT = 'acme';
/** Compressible and repeated, so that a plain or only compressed copy would be found by a search. */
export const SECRET = 'ACME-PROPRIETARY-ALGORITHM';

/** Why containers cannot be started here; undefined where they can. */
export function siteSkipReason(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root, to mount and to start containers';
  const missing = ['containerd', 'runc', 'docker-registry'].filter(
    (name) => !existsSync(`/usr/bin/${name}`) && !existsSync(`/usr/sbin/${name}`),
  );
  return missing.length === 0
    ? undefined
    : `needs ${missing.join(', ')}: apt-get install ${missing.join(' ')}`;
}

export class GatedSite {
  readonly site: Site;
  readonly agent: AgentConnection;
  readonly release: Release;
  readonly #licenses: string[] = [];
  #nextCustomer = 1;

  private constructor(site: Site, agent: AgentConnection, release: Release) {
    this.site = site;
    this.agent = agent;
    this.release = release;
  }

  /** A site whose registry holds `plain` (base only) and `acme` (base plain, two secret layers). */
  static async start(options: SiteOptions = {}): Promise<GatedSite> {
    const site = await Site.start(options);
    try {
      await site.api.createProduct({ code: PRODUCT, name: 'Acme', contact: CONTACT });
      await site.publish('plain', '1', [site.baseLayer]);
      const release = await releaseSecretImage(site, 'acme', [secretLayer('one'), secretLayer('two')]);
      return new GatedSite(site, site.agent.connect(), release);
    } catch (error) {
      await site.stop();
      throw error;
    }
  }

  get image(): string {
    return this.site.reference('acme');
  }

  /** A new customer's license. */
  async license(terms: Partial<LicenseRequest> = {}): Promise<CreatedLicense> {
    const customer = `customer-${this.#nextCustomer}`;
    this.#nextCustomer += 1;
    await this.site.api.createCustomer({ name: customer });
    const created = await this.site.api.createLicense({ customer, product: PRODUCT, ...terms });
    this.#licenses.push(created.license.id);
    return created;
  }

  /**
   * A license, and the node activated with it. What attempts before have left is collected: a pull could find a base layer
   * that is gone the next moment, which has nothing to do with us.
   */
  async activate(terms: Partial<LicenseRequest> = {}): Promise<CreatedLicense> {
    const created = await this.license(terms);
    await this.agent.activate(created.licenseKey);
    await this.site.containerd.collectGarbage();
    return created;
  }

  /** Every license given so far is revoked. */
  async revokeAll(): Promise<void> {
    for (const id of this.#licenses.splice(0))
      await this.site.api.changeLicense(id, 'revoke').catch(() => undefined);
  }

  /**
   * The attack of a tenant who has only the public manifest: the victim's config, so the same chain IDs, around
   * layers of his own that nobody can decrypt. Gives the reference of the pushed image.
   */
  async copyConfigWithForeignLayers(name: string): Promise<string> {
    const victim = openLayout(this.site.layout('acme'));
    const { bytes } = await victim.readManifest('1');
    const manifest = JSON.parse(Buffer.from(bytes).toString()) as {
      config: Descriptor;
      layers: Descriptor[];
    };
    const attacker = openLayout(this.site.layout(name));
    await copyBlobs(victim, attacker, [manifest.config, ...manifest.layers.slice(0, 1)]);
    const layers = [manifest.layers[0]];
    for (const layer of manifest.layers.slice(1)) {
      const junk = randomBytes(layer.size);
      const descriptor = { ...layer, digest: digestOf(junk) };
      await attacker.writeBlob(descriptor, async function* () {
        yield junk;
      });
      layers.push(descriptor);
    }
    const forged = Buffer.from(JSON.stringify({ ...manifest, layers }));
    const mediaType = 'application/vnd.oci.image.manifest.v1+json';
    const descriptor = { mediaType, digest: digestOf(forged), size: forged.length };
    await attacker.writeManifest({ descriptor, bytes: forged }, '1');
    await this.site.push(name, '1');
    return this.site.reference(name);
  }

  /** The topmost of `ctr snapshots list`'s committed snapshots: the one that is nobody's parent. */
  topChainId(lines: readonly string[]): string {
    const rows = lines.map((line) => line.trim().split(/\s+/));
    const parents = new Set(rows.map(([, parent]) => parent));
    const tops = rows.filter(
      ([name, parent]) => parent?.startsWith('sha256:') === true && !parents.has(name),
    );
    const [top] = tops.map(([name]) => name);
    if (top === undefined) throw new Error(`no topmost snapshot in ${lines.join('\n')}`);
    return top;
  }

  ctr(...args: string[]): Promise<{ status: number; output: string }> {
    return this.site.containerd.ctr(args);
  }

  /** `ctr images pull` into a snapshotter. */
  pullWithCtr(snapshotter = 'latchkey', image = this.image): Promise<{ status: number; output: string }> {
    return this.ctr('images', 'pull', '--plain-http', '--snapshotter', snapshotter, image);
  }

  /** `ctr run` that prints the secret. */
  runWithCtr(
    id: string,
    snapshotter = 'latchkey',
    image = this.image,
  ): Promise<{ status: number; output: string }> {
    return this.printWithCtr(id, image, '/app/one.txt', snapshotter);
  }

  /** `ctr run` that prints a file. */
  printWithCtr(
    id: string,
    image: string,
    path: string,
    snapshotter = 'latchkey',
  ): Promise<{ status: number; output: string }> {
    return this.#withLog(id, (log) => [
      ...['run', '--rm', '--net-host', ...log, '--snapshotter', snapshotter],
      ...[image, id, '/bin/busybox', 'cat', path],
    ]);
  }

  /** `ctr tasks exec` that prints a file. */
  printInContainer(id: string, path: string): Promise<{ status: number; output: string }> {
    const execId = `exec-${randomBytes(4).toString('hex')}`;
    return this.#withLog(execId, (log) => [
      ...['tasks', 'exec', ...log, '--exec-id', execId, id],
      ...['/bin/busybox', 'cat', path],
    ]);
  }

  /**
   * The output of a program that the shim writes to a file: through pipes it is lost when the program has ended before ctr has
   * opened its side, which it then gives up (containerd client, task.Delete).
   */
  async #withLog(
    name: string,
    command: (log: readonly string[]) => readonly string[],
  ): Promise<{ status: number; output: string }> {
    const log = join(this.site.directory, `${name}.log`);
    const { status, output } = await this.ctr(...command(['--log-uri', `file://${log}`]));
    const printed = existsSync(log) ? await readFile(log, 'utf8') : '';
    await rm(log, { force: true });
    return { status, output: output + printed };
  }

  async stop(): Promise<void> {
    this.agent.close();
    await this.site.stop();
  }
}

/** A layer with the secret in it, different for each name. */
export function secretLayer(name: string, compression?: Compression): Promise<BuiltLayer> {
  const content = `${SECRET} ${name}\n`.repeat(200);
  return layerFromFiles([{ path: `app/${name}.txt`, content }], compression);
}

/** Encrypts all but the base and pushes it under a name. */
export async function releaseSecretImage(
  site: Site,
  name: string,
  layers: readonly Promise<BuiltLayer>[],
  options: { isSalted?: boolean } = {},
): Promise<Release> {
  const plainName = `${name}-plain`;
  const built = [site.baseLayer, ...(await Promise.all(layers))];
  await writeImage(openLayout(site.layout(plainName)), '1', { layers: built, command: SLEEP_COMMAND });
  const base = await readImageGraph(openLayout(site.layout('plain')), '1');
  const release = await releaseImage(site.api, {
    layoutDirectory: site.layout(plainName),
    tag: '1',
    outputDirectory: site.layout(name),
    outputTag: '1',
    productCode: PRODUCT,
    selection: { kind: 'base', bases: [{ name: 'plain', graph: base }] },
    ...options,
  });
  await site.push(name, '1');
  return release;
}

/** The text a failed call gives to its caller; throws when the call succeeds. */
export async function refusalOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  throw new Error('expected a refusal, but the call succeeded');
}

/** Asks again until the answer is true; the tests' own limit ends a wait in vain. */
export async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 20));
}

/**
 * What a client is told. While containerd collects what an attempt before has left, a base layer that was there can be gone
 * the next moment; that has nothing to do with us, and clients try again.
 */
export async function toldOnce(attempt: () => Promise<string>): Promise<string> {
  for (;;) {
    const told = await attempt();
    if (!/does not exist: not found|parent snapshot \S+ does not exist/.test(told)) return told;
  }
}
