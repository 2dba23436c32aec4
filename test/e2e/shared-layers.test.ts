/** Two releases that share layers, of which one is refused: the other must neither fail nor end with it. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { openLayout } from '#src/store/layout.ts';
import { writeImage } from '../../lab/image-builder.ts';
import { SLEEP_COMMAND, filesContaining } from '../../lab/site.ts';
import { describeOnEachContainerd } from './each-containerd.ts';
import { GatedSite, PRODUCT, SECRET, secretLayer, until } from './gated-site.ts';

const LATCHKEY = join(import.meta.dirname, '..', '..', 'cli', 'latchkey.js');
const run = promisify(execFile);

describeOnEachContainerd('releases that share layers', (containerd) => {
  let gated: GatedSite;
  let token: string;

  beforeAll(async () => {
    gated = await GatedSite.start({ containerd });
    ({ token } = await gated.site.api.createToken({ name: 'ci', permissionSet: 'release' }));
  });
  // The next test's images shall be the first to unpack what they share.
  afterEach(async () => {
    await gated.site.containerd.removeAllContainers();
    const { output } = await gated.ctr('images', 'list', '--quiet');
    for (const image of output.trim().split('\n')) await gated.ctr('images', 'remove', '--sync', image);
    await gated.site.containerd.collectGarbage();
    expect((await gated.agent.status()).images).toEqual([]);
  });
  afterAll(async () => {
    await gated.stop();
  });

  const reference = (tag: string) => gated.site.reference('acme', tag);

  async function latchkey(...args: string[]): Promise<void> {
    const env = {
      ...process.env,
      XDG_CACHE_HOME: join(gated.site.directory, 'cache'),
      LATCHKEY_SERVER: gated.site.keyServer.adminUrl,
      LATCHKEY_TOKEN: token,
    };
    await run(process.execPath, [LATCHKEY, ...args], { env });
  }

  /** A release of a secret layer of its own on top of the first one of `acme:1`, which it shares. */
  async function releaseOnShared(tag: string): Promise<void> {
    const { site } = gated;
    const layers = [site.baseLayer, await secretLayer('one'), await secretLayer(tag)];
    const plain = site.layout('next-plain');
    await writeImage(openLayout(plain), tag, { layers, command: SLEEP_COMMAND });
    await latchkey(
      ...['encrypt', `oci:${plain}:${tag}`, reference(tag), '--product', PRODUCT],
      ...['--base', `oci:${site.layout('plain')}:1`, '--reuse-from', gated.image],
    );
  }

  async function withdraw(tag: string): Promise<void> {
    const releases = await gated.site.api.releases();
    const release = releases.find(({ version, state }) => version === tag && state === 'PUBLISHED');
    await gated.site.api.yankRelease(release!.id);
  }

  async function pull(image: string): Promise<void> {
    const { status, output } = await gated.pullWithCtr('latchkey', image);
    expect(status, output).toBe(0);
  }
  const read = async (id: string, image: string) =>
    (await gated.printWithCtr(id, image, '/app/one.txt')).output;

  async function runDetached(id: string, image: string): Promise<void> {
    const options = ['--detach', '--net-host', '--snapshotter', 'latchkey'];
    expect(await gated.ctr('run', ...options, image, id, ...SLEEP_COMMAND)).toMatchObject({ status: 0 });
  }

  /** A new agent: leases are forgotten. containerd dials again in its own time. */
  async function restartAgent(): Promise<void> {
    await gated.site.agent.kill();
    await gated.site.agent.start();
    const list = ['snapshots', '--snapshotter', 'latchkey', 'list'];
    await until(async () => (await gated.ctr(...list)).status === 0);
  }

  test('under two licenses: the end of one ends its containers, and those of the other go on and start', async () => {
    await releaseOnShared('2.0.0');
    await releaseOnShared('3.0.0');
    const second = await gated.activate({ onRevoke: 'kill', versionConstraint: '2.x' });
    await gated.activate({ onRevoke: 'kill', versionConstraint: '3.x' });
    for (const tag of ['2.0.0', '3.0.0']) await pull(reference(tag));
    for (const tag of ['2.0.0', '3.0.0']) await runDetached(`long-${tag}`, reference(tag));
    await gated.site.api.changeLicense(second.license.id, 'revoke');
    const tasks = async () => (await gated.ctr('tasks', 'list')).output;
    await until(async () => !/long-2.0.0 .*RUNNING/.test(await tasks()));
    await new Promise((resolve) => setTimeout(resolve, 2000));
    expect(await tasks()).toMatch(/long-3.0.0 .*RUNNING/);
    expect(await read('second-again', reference('2.0.0'))).toMatch(/DENIED_LICENSE_REVOKED|DENIED_VERSION/);
    expect(await read('third-again', reference('3.0.0'))).toContain(SECRET);
    await restartAgent();
    expect(await read('third-restarted', reference('3.0.0'))).toContain(SECRET);
    await new Promise((resolve) => setTimeout(resolve, 2000));
    expect(await tasks()).toMatch(/long-3.0.0 .*RUNNING/);
    await gated.revokeAll();
    await until(async () => !(await tasks()).includes('RUNNING'));
    const { memoryDirectory } = gated.site.agent.paths;
    await until(async () => (await filesContaining([memoryDirectory], SECRET)).length === 0);
  });

  test('a release that was withdrawn does not stop the one that has taken its layers over', async () => {
    await releaseOnShared('4.0.0');
    await gated.activate();
    await pull(gated.image);
    expect(await read('old', gated.image)).toContain(SECRET);
    await pull(reference('4.0.0'));
    await withdraw('1');
    await restartAgent();
    await gated.agent.dropPlaintext();
    expect(await read('new', reference('4.0.0'))).toContain(SECRET);
    expect(await read('withdrawn', gated.image)).toContain('DENIED_IMAGE_YANKED');
    await gated.agent.dropPlaintext();
    expect(await read('new-restored', reference('4.0.0'))).toContain(SECRET);
  });

  test('nor the one whose image key is new, with the same layers', async () => {
    await gated.activate();
    await pull(reference('4.0.0'));
    expect(await read('before', reference('4.0.0'))).toContain(SECRET);
    const rewrapped = reference('4.0.0-rewrapped');
    await latchkey('recipients', 'rewrap', reference('4.0.0'), rewrapped, '--product', PRODUCT);
    await withdraw('4.0.0');
    await restartAgent();
    await pull(rewrapped);
    expect(await read('rewrapped', rewrapped)).toContain(SECRET);
    expect(await read('withdrawn-again', reference('4.0.0'))).toContain('DENIED_');
  });
});
