/** Archives and copies on the command line: files, pipes, what is left behind, and what goes where. */
import { execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { openLayout } from '#src/store/layout.ts';
import { fakeReferrer, storeReferrer } from '../fakes/referrer.ts';
import { startFakeRegistry } from '../fakes/registry.ts';
import { realLayer, storeRealImage } from '../image/real-image.ts';

const LATCHKEY = join(import.meta.dirname, '..', '..', 'cli', 'latchkey.js');

interface Outcome {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

let directory: string;
const at = (name: string) => join(directory, name);
const env = () => ({ ...process.env, XDG_CACHE_HOME: at('cache'), TMPDIR: at('tmp') });

function shell(script: string): Promise<Outcome> {
  const line = script.replaceAll('latchkey ', `'${process.execPath}' '${LATCHKEY}' `);
  return new Promise((resolve) => {
    execFile(
      'bash',
      ['-o', 'pipefail', '-c', line],
      { env: env(), cwd: directory },
      (error, stdout, stderr) => {
        resolve({ status: error === null ? 0 : Number(error.code), stdout, stderr });
      },
    );
  });
}

/** Nothing of us is left in the directories where temporary files go. */
async function expectNoLeftovers(): Promise<void> {
  const names = [...(await readdir(directory)), ...(await readdir(at('tmp')))];
  expect(names.filter((name) => name.includes('latchkey'))).toEqual([]);
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'cli-archives-'));
  await shell('mkdir tmp');
  const layers = [await realLayer(MEDIA_TYPE.ociLayerGzip), await realLayer(MEDIA_TYPE.ociLayerGzip)];
  const source = openLayout(at('source'));
  const manifest = await storeRealImage(source, layers, { tag: 'v1' });
  await storeReferrer(source, fakeReferrer(manifest.descriptor, 'application/vnd.example.signature'));
  await shell('latchkey keygen key');
});
afterAll(() => rm(directory, { recursive: true, force: true }));

describe('archives', () => {
  test('encrypt, inspect and decrypt, from file to file', async () => {
    const encrypt = await shell(
      'latchkey encrypt oci:source:v1 oci-archive:enc.tar:v1 --recipient jwe:key.pub.pem --all-layers --quiet',
    );
    expect(encrypt).toMatchObject({ status: 0, stderr: '' });
    const shown = await shell('latchkey inspect oci-archive:enc.tar');
    expect(shown.stdout).toContain('2 of 2 encrypted');
    expect(
      await shell('latchkey decrypt oci-archive:enc.tar oci-archive:dec.tar --key key.pem -q'),
    ).toMatchObject({
      status: 0,
      stderr: '',
    });
    expect((await shell('tar -tf dec.tar')).stdout).toMatch(
      /^oci-layout\nindex.json\nblobs\/\nblobs\/sha256\/\n/,
    );
    await expectNoLeftovers();
  });

  test('go through pipes, and results keep out of them', async () => {
    const { status, stderr } = await shell(
      'latchkey --json encrypt oci:source:v1 oci-archive:- --recipient jwe:key.pub.pem --all-layers | ' +
        'latchkey decrypt oci-archive:- oci-archive:-:v1 --key key.pem | gzip > piped.tar.gz',
    );
    expect(status).toBe(0);
    expect(stderr).toContain('"digest"');
    expect(stderr).toContain('decrypted');
    const back = await shell('latchkey --json inspect oci-archive:- < piped.tar.gz');
    expect(JSON.parse(back.stdout)).toMatchObject({ platforms: [{ layers: [{}, {}] }] });
    await expectNoLeftovers();
  });

  test('an error beside a piped archive is not in the pipe', async () => {
    const outcome = await shell('latchkey --json copy oci:nowhere oci-archive:-');
    expect(outcome).toMatchObject({ status: 66, stdout: '' });
    expect(outcome.stderr).toContain('STATE_NOT_FOUND');
    const source = await shell('echo nonsense | latchkey --json copy oci-archive:- oci:never');
    expect(JSON.parse(source.stdout)).toMatchObject({ error: { code: 'INPUT_NOT_AN_IMAGE' } });
    expect(source.status).toBe(65);
  });

  test('a reader that goes away is an error, and nothing stays', async () => {
    const outcome = await shell('latchkey copy oci:source:v1 oci-archive:- | true');
    expect(outcome.status).toBe(74);
    expect(outcome.stderr).toMatch(/STORAGE_FAILED/);
    await expectNoLeftovers();
  });

  test('a failed run leaves the archive that was there, and no other file', async () => {
    await shell('latchkey copy oci:source:v1 oci-archive:kept.tar');
    const before = await readFile(at('kept.tar'));
    await writeFile(at('wrong.tar'), (await readFile(at('kept.tar'))).subarray(0, 1600));
    const outcome = await shell('latchkey copy oci-archive:wrong.tar oci-archive:kept.tar');
    expect(outcome.status).toBe(65);
    expect(outcome.stderr).toMatch(/^latchkey: INPUT_TRUNCATED/m);
    expect((await readFile(at('kept.tar'))).equals(before)).toBe(true);
    await expectNoLeftovers();
  });

  test.each(['SIGINT', 'SIGTERM', 'SIGKILL'] as const)(
    '%s while standard input is read leaves nothing',
    async (signal) => {
      const child = spawn(process.execPath, [LATCHKEY, 'inspect', 'oci-archive:-'], {
        env: env(),
        cwd: directory,
        stdio: ['pipe', 'ignore', 'ignore'],
      });
      const ended = new Promise((resolve) => child.once('close', resolve));
      child.stdin.on('error', () => undefined);
      child.stdin.write(Buffer.alloc(1_000_000));
      // Open files of the child show when the temporary file is there.
      const spooled = async (): Promise<boolean> =>
        /tmp\/latchkey-.* \(deleted\)/.test((await shell(`ls -l /proc/${child.pid}/fd`)).stdout);
      while (!(await spooled())) await delay(20);
      child.kill(signal);
      await ended;
      await expectNoLeftovers();
    },
  );

  test.each([
    ['docker archives are only read', 'latchkey copy oci:source:v1 docker-archive:x.tar'],
    ['skopeo copy containers-storage:app:1', 'latchkey copy containers-storage:app:1 oci:x'],
    [
      'read only once',
      'tar -C source -cf - . | latchkey encrypt oci-archive:- oci:x --base oci-archive:- --recipient jwe:key.pub.pem',
    ],
    ['does not exist', 'latchkey inspect docker-archive:none.tar'],
  ])('%s', async (message, script) => {
    const outcome = await shell(script);
    expect(outcome.status).not.toBe(0);
    expect(outcome.stderr).toContain(message);
    expect(outcome.stderr).toMatch(/^latchkey: [A-Z_]+: [^\n]+\n$/);
    expect(existsSync(at('x'))).toBe(false);
  });
});

describe('copy', () => {
  test('takes all along, and does nothing the second time', async () => {
    const registry = await startFakeRegistry();
    try {
      const target = `docker://${registry.host}/acme/web:2.0`;
      const first = await shell(`latchkey --json copy oci:source:v1 ${target}`);
      expect(first).toMatchObject({ status: 0, stderr: '' });
      const summary = JSON.parse(first.stdout) as { digest: string; referrers: string[] };
      expect(summary).toMatchObject({ manifests: 1, blobs: { copied: 5, skipped: 0 } });
      expect(summary.referrers).toHaveLength(1);
      registry.requests.length = 0;
      const second = await shell(`latchkey --json copy oci:source:v1 ${target}`);
      expect(JSON.parse(second.stdout)).toMatchObject({ blobs: { copied: 0 }, copiedBytes: 0 });
      expect(registry.requests.filter(({ method }) => !['GET', 'HEAD'].includes(method))).toEqual([]);
      const text = await shell(`latchkey copy ${target} oci-archive:web.tar:2.0`);
      expect(text.stdout).toContain(summary.digest);
      expect(text.stdout).toMatch(/referrers +1/);
      expect(text.stderr).toMatch(/copying: done/);
      const referrers = await shell('latchkey --json copy oci-archive:web.tar oci:back:v1');
      expect(JSON.parse(referrers.stdout)).toMatchObject({
        digest: summary.digest,
        referrers: summary.referrers,
      });
    } finally {
      await registry.stop();
    }
  });

  test('a push that encrypt could not finish is finished without a blob sent or read again', async () => {
    const registry = await startFakeRegistry();
    const encrypt = `latchkey encrypt oci:source:v1 docker://${registry.host}/acme/web:3.0 --recipient jwe:key.pub.pem --all-layers -q`;
    let isDown = true;
    registry.misbehaviours.push(({ method, url }, response) => {
      const isManifest = method === 'PUT' && url.pathname.includes('/manifests/');
      if (isManifest && isDown) response.destroy();
      return isManifest && isDown;
    });
    try {
      expect((await shell(encrypt)).status).toBe(69);
      const blobs = registry.blobs.size;
      expect(blobs).toBe(3);
      isDown = false;
      registry.requests.length = 0;
      expect((await shell(encrypt)).status).toBe(0);
      const written = registry.requests.filter(({ method }) => !['GET', 'HEAD'].includes(method));
      expect(written.map(({ method, url }) => `${method} ${url.pathname}`)).toEqual([
        'PUT /v2/acme/web/manifests/3.0',
      ]);
      expect(
        registry.requests.filter(({ method, url }) => method === 'GET' && url.pathname.includes('/blobs/')),
      ).toEqual([]);
      expect(registry.blobs.size).toBe(blobs);
    } finally {
      await registry.stop();
    }
  });
});
