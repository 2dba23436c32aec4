/** Files and places that a command line names by mistake: each is said in a line, and none takes the memory or for ever. */
import { spawnSync } from 'node:child_process';
import { rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { openLayout } from '#src/store/layout.ts';
import { type CommandOutcome, LATCHKEY, runLatchkey, runProgram } from '../fakes/command-line.ts';
import { temporaryDirectory } from '../fakes/temporary-directory.ts';
import { realLayer, storeRealImage } from '../image/real-image.ts';

/** More than Node reads in one piece; it is a hole, and takes no room. */
const HUGE_BYTES = 3 * 1024 ** 3;

const directory = temporaryDirectory();
const at = (name: string) => join(directory(), name);
const latchkey = (args: readonly string[], env: Record<string, string> = {}): Promise<CommandOutcome> =>
  runLatchkey(args, { directory: directory(), env });

beforeEach(async () => {
  await storeRealImage(openLayout(at('plain')), [await realLayer(MEDIA_TYPE.ociLayer)], { tag: 'v1' });
  await writeFile(at('huge'), '');
  await truncate(at('huge'), HUGE_BYTES);
  await latchkey(['keygen', 'key']);
});

const ENCRYPT = ['encrypt', 'oci:plain:v1', 'oci:out:v1', '--recipient', 'jwe:key.pub.pem'];

test.each<[string, number, RegExp, readonly string[], Record<string, string>?]>([
  ['a key of statements', 65, /huge is larger/, ['verify', 'oci:plain:v1', '--key', 'huge']],
  ['a key of statements', 65, /\/tmp is a directory/, ['verify', 'oci:plain:v1', '--key', '/tmp']],
  [
    'a statement',
    65,
    /huge is larger than \d+ bytes: it is no statement/,
    ['verify', 'oci:plain:v1', '--key', 'key.pub.pem', '--statement', 'huge'],
  ],
  [
    'a statement',
    65,
    /\/tmp is a directory; name the file of a statement/,
    ['verify', 'oci:plain:v1', '--key', 'key.pub.pem', '--statement', '/tmp'],
  ],
  ['a signing key', 65, /huge is larger/, [...ENCRYPT, '--sign-key', 'huge']],
  ['a signing key', 65, /\/tmp is a directory/, [...ENCRYPT, '--sign-key', '/tmp']],
  ['a token file', 77, /huge holds is not an API token/, ['product', 'list', '--token-file', 'huge']],
  [
    'a provider configuration',
    78,
    /huge is larger/,
    ['decrypt', 'oci:plain:v1', 'oci:out:v1'],
    { OCICRYPT_KEYPROVIDER_CONFIG: 'huge' },
  ],
  ['a place that takes nothing', 66, /no such file or directory/, ENCRYPT.with(2, 'oci:/proc/latchkey:v1')],
  [
    'a backup without a directory',
    66,
    /there is no directory for not\/here\/a\.backup; make it \(mkdir -p not\/here\), or name another place\n/,
    ['server', 'backup', 'not/here/a.backup'],
    { LATCHKEY_TOKEN: 'lkt_x' },
  ],
  [
    'a backup inside a file',
    74,
    /not a directory: huge\/a\.backup; /,
    ['server', 'backup', 'huge/a.backup'],
    { LATCHKEY_TOKEN: 'lkt_x' },
  ],
  [
    'a server without encryption',
    2,
    /the API token would go to keys\.acme\.example:7440 without encryption; .*https:\/\/keys/,
    ['product', 'list', '--server', 'http://keys.acme.example:7440'],
    { LATCHKEY_TOKEN: 'lkt_x' },
  ],
])('%s: status %i, %s', async (_what, status, message, args, env) => {
  const outcome = await latchkey(args, env);
  expect(outcome.stderr).toMatch(message);
  expect(outcome.stderr).toMatch(/^latchkey: [A-Z_]+: [^\n]+\n$/);
  expect(outcome.status).toBe(status);
});

test('a working directory that was removed', async () => {
  const gone = at('gone');
  const script = `mkdir '${gone}' && cd '${gone}' && rmdir '${gone}' && exec "$@"`;
  const args = [
    '-c',
    script,
    'sh',
    process.execPath,
    LATCHKEY,
    'copy',
    `oci:${at('plain')}:v1`,
    'oci:out:v1',
  ];
  const outcome = await runProgram('sh', args, { directory: directory() });
  expect(outcome.status).toBe(66);
  expect(outcome.stderr).toMatch(/^latchkey: STATE_NOT_FOUND: [^\n]+\n$/);
});

// Descriptors of Node itself: an epoll, an eventfd, an io_uring.
test.each([4, 9, 11, 12])('descriptor %i, which is no password', (descriptor) => {
  const { status, stderr } = spawnSync(
    process.execPath,
    [LATCHKEY, 'decrypt', '--key', `key.pem:fd=${descriptor}`, 'oci:plain:v1', 'oci:out:v1'],
    { cwd: directory(), encoding: 'utf8' },
  );
  expect(stderr).toMatch(/^latchkey: [A-Z_]+: [^\n]+\n$/);
  expect(stderr).not.toContain('BUG_UNEXPECTED');
  expect([65, 66]).toContain(status);
});

test('a password from a pipe', async () => {
  const made = await runProgram(
    'sh',
    [
      '-c',
      'openssl genrsa -traditional -aes256 -passout pass:hunter2 -out locked.pem 2048 && openssl rsa -in locked.pem -passin pass:hunter2 -pubout -out locked.pub.pem',
    ],
    { directory: directory() },
  );
  expect(made.status).toBe(0);
  await rm(at('out'), { recursive: true, force: true });
  expect(await latchkey(ENCRYPT.with(4, 'jwe:locked.pub.pem'))).toMatchObject({ status: 0 });
  const command = `echo hunter2 | "$0" "$1" decrypt --key locked.pem:fd=3 oci:out:v1 oci:back:v1 3<&0`;
  const outcome = await runProgram('sh', ['-c', command, process.execPath, LATCHKEY], {
    directory: directory(),
  });
  expect(outcome).toMatchObject({ status: 0 });
});
