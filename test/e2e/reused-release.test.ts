/** A release that takes layers over from an earlier one, from the pipeline to the running container. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { inspectImage } from '#src/image/inspect.ts';
import { readImageGraph } from '#src/image/image-graph.ts';
import { parseReference } from '#src/oci/reference.ts';
import { openRegistry } from '#src/registry/registry-store.ts';
import { openLayout } from '#src/store/layout.ts';
import { writeImage } from '../../lab/image-builder.ts';
import { SLEEP_COMMAND } from '../../lab/site.ts';
import { describeOnEachContainerd } from './each-containerd.ts';
import { GatedSite, PRODUCT, SECRET, secretLayer, until } from './gated-site.ts';

const LATCHKEY = join(import.meta.dirname, '..', '..', 'cli', 'latchkey.js');
const run = promisify(execFile);

describeOnEachContainerd('a release that reuses', (containerd) => {
  let gated: GatedSite;
  let token: string;
  let oldDigests: string[];
  let newDigests: string[];

  beforeAll(async () => {
    gated = await GatedSite.start({ containerd });
    const { site } = gated;
    ({ token } = await site.api.createToken({ name: 'ci', permissionSet: 'release' }));
    const layers = [site.baseLayer, await secretLayer('one'), await secretLayer('three')];
    await writeImage(openLayout(site.layout('acme2-plain')), '1', { layers, command: SLEEP_COMMAND });
    oldDigests = await layerDigests(gated.image);
  });
  afterAll(async () => {
    await gated.stop();
  });

  const newImage = () => gated.site.reference('acme', '2');

  async function layerDigests(reference: string): Promise<string[]> {
    const graph = await readImageGraph(openRegistry(parseReference(reference)), undefined);
    const [platform] = (await inspectImage(graph)).platforms;
    return platform!.layers.map(({ digest }) => digest);
  }

  /** Requests since a moment that moved a blob, by its digest. */
  async function movedBlobs(method: 'GET' | 'PUT', since: number): Promise<string[]> {
    const requests = (await gated.site.registry.requests()).slice(since);
    const moved = requests.filter((line) => line.startsWith(`${method} `) && line.includes('/blobs/'));
    return moved.flatMap((line) => /sha256(?::|%3A)[0-9a-f]{64}/i.exec(line)?.[0].replace('%3A', ':') ?? []);
  }

  async function latchkey(...args: string[]): Promise<string> {
    const env = {
      ...process.env,
      XDG_CACHE_HOME: join(gated.site.directory, 'cache'),
      LATCHKEY_SERVER: gated.site.keyServer.adminUrl,
      LATCHKEY_TOKEN: token,
    };
    return (await run(process.execPath, [LATCHKEY, ...args, '--json'], { env })).stdout;
  }

  async function read(id: string, image: string, file: string): Promise<string> {
    return (await gated.printWithCtr(id, image, `/app/${file}.txt`)).output;
  }

  test('uploads only what is new', async () => {
    const since = (await gated.site.registry.requests()).length;
    await latchkey(
      ...['encrypt', `oci:${gated.site.layout('acme2-plain')}:1`, newImage(), '--product', PRODUCT],
      ...['--base', `oci:${gated.site.layout('plain')}:1`, '--reuse-from', gated.image],
    );
    newDigests = await layerDigests(newImage());
    expect(newDigests.slice(0, 2)).toEqual(oldDigests.slice(0, 2));
    expect(newDigests[2]).not.toBe(oldDigests[2]);
    const uploaded = await movedBlobs('PUT', since);
    expect(uploaded).toContain(newDigests[2]);
    for (const digest of oldDigests) expect(uploaded).not.toContain(digest);
    expect(await movedBlobs('GET', since)).not.toContain(oldDigests[1]);
  });

  test('a node that has the old one downloads only what is new, and runs both', async () => {
    await gated.activate();
    expect((await gated.pullWithCtr()).status).toBe(0);
    const since = (await gated.site.registry.requests()).length;
    const pulled = await gated.pullWithCtr('latchkey', newImage());
    expect(pulled).toMatchObject({ status: 0 });
    const fetched = await movedBlobs('GET', since);
    expect(fetched).toContain(newDigests[2]);
    for (const digest of oldDigests) expect(fetched).not.toContain(digest);
    expect(await read('new-three', newImage(), 'three')).toContain(`${SECRET} three`);
    expect(await read('new-one', newImage(), 'one')).toContain(`${SECRET} one`);
    expect(await read('old-two', gated.image, 'two')).toContain(`${SECRET} two`);
  });

  test('a node that never had the old one runs the new one', async () => {
    for (const image of [gated.image, newImage()]) {
      await gated.ctr('images', 'remove', '--sync', image);
    }
    const since = (await gated.site.registry.requests()).length;
    expect(await gated.pullWithCtr('latchkey', newImage())).toMatchObject({ status: 0 });
    expect(await movedBlobs('GET', since)).toEqual(expect.arrayContaining(newDigests.slice(1)));
    expect(await read('fresh', newImage(), 'one')).toContain(`${SECRET} one`);
  });

  test('re-wrapped under a new image key it runs as well, with the same layers', async () => {
    const rewrapped = gated.site.reference('acme', '2-rewrapped');
    const since = (await gated.site.registry.requests()).length;
    await latchkey('recipients', 'rewrap', newImage(), rewrapped, '--product', PRODUCT);
    const uploaded = await movedBlobs('PUT', since);
    for (const digest of newDigests) expect(uploaded).not.toContain(digest);
    expect(await layerDigests(rewrapped)).toEqual(newDigests);
    expect(await gated.pullWithCtr('latchkey', rewrapped)).toMatchObject({ status: 0 });
    expect(await read('rewrapped', rewrapped, 'three')).toContain(`${SECRET} three`);
  });

  test('a revoked license stops them all', async () => {
    await gated.pullWithCtr();
    await gated.revokeAll();
    await until(async () => (await gated.agent.status()).licenses.every(({ state }) => state !== 'ACTIVE'));
    for (const image of [gated.image, newImage()]) {
      expect(await read('revoked', image, 'one')).toContain('DENIED_LICENSE_REVOKED');
    }
  });
});
