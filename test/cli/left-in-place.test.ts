/** What stays where an image was changed, and what a run that failed leaves behind. */
import { readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { parseManifest } from '#src/oci/manifest.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { openLayout } from '#src/store/layout.ts';
import { runLatchkey } from '../fakes/command-line.ts';
import { temporaryDirectory } from '../fakes/temporary-directory.ts';
import { type RealLayer, realLayer, storeRealImage } from '../image/real-image.ts';

const UNVERIFIABLE = /note: nobody can verify this image/;

const directory = temporaryDirectory();
const at = (...names: string[]) => join(directory(), ...names);
const latchkey = (...args: string[]) => runLatchkey(args, { directory: directory() });

let layers: RealLayer[];

beforeEach(async () => {
  layers = [await realLayer(MEDIA_TYPE.ociLayer), await realLayer(MEDIA_TYPE.ociLayer)];
  await storeRealImage(openLayout(at('plain')), layers, { tag: 'v1' });
  for (const name of ['key', 'other']) await latchkey('keygen', name);
});

const RECIPIENTS = ['--recipient', 'jwe:key.pub.pem', '--recipient', 'jwe:other.pub.pem'];

test('encrypt says when the plain image is still in the same place', async () => {
  const { digest } = (await openLayout(at('plain')).readManifest('v1')).descriptor;
  const same = await latchkey('encrypt', 'oci:plain:v1', 'oci:plain:v2', ...RECIPIENTS);
  expect(same.status).toBe(0);
  expect(same.stderr).toContain(
    `still in oci:${at('plain').replace(/^.*\//, '')}, in plaintext: delete ${digest}`,
  );
  const elsewhere = await latchkey('encrypt', 'oci:plain:v1', 'oci:encrypted:v1', ...RECIPIENTS);
  expect(elsewhere.stderr).not.toContain('still in');
});

test('recipients remove says who can still open the image as it was, and that nobody can verify the new one', async () => {
  const signed = ['--sign-key', 'key.pem'];
  await latchkey('encrypt', 'oci:plain:v1', 'oci:encrypted:v1', ...RECIPIENTS, ...signed);
  const { digest } = (await openLayout(at('encrypted')).readManifest('v1')).descriptor;
  const remove = ['recipients', 'remove', 'oci:encrypted:v1', 'oci:encrypted:v1', 'jwe#1.2'];
  const outcome = await latchkey(...remove, '--key', 'key.pem', '--recipient', 'jwe:key.pub.pem');
  expect(outcome).toMatchObject({ status: 0 });
  expect(outcome.stderr).toMatch(new RegExp(`still in .*for those it was for: delete ${digest}`));
  expect(outcome.stderr).toMatch(UNVERIFIABLE);
  const json = await latchkey(
    ...['recipients', 'add', 'oci:encrypted:v1', 'oci:more:v1', '--key', 'key.pem', '--json'],
    ...['--recipient', 'jwe:other.pub.pem'],
  );
  expect(JSON.parse(json.stdout)).toMatchObject({ notes: [expect.stringMatching(/nobody can verify/)] });
});

test('an archive cannot be a directory, which is said before anything is done', async () => {
  const outcome = await latchkey('encrypt', 'oci:plain:v1', 'oci-archive:plain', ...RECIPIENTS);
  expect(outcome.status).toBe(2);
  expect(outcome.stderr).toMatch(
    /^latchkey: INPUT_REFERENCE_INVALID: oci-archive:plain .* is a directory; name a file/,
  );
});

test('a decryption that fails leaves no plaintext of the layers that went well, and what was there before', async () => {
  await latchkey('encrypt', 'oci:plain:v1', 'oci:encrypted:v1', ...RECIPIENTS);
  const encrypted = openLayout(at('encrypted'));
  const [first, second] = parseManifest((await encrypted.readManifest('v1')).bytes).layers;
  const path = encrypted.localPath!(second!.digest)!;
  const bytes = await readFile(path);
  bytes[100]! ^= 1;
  await writeFile(path, bytes);
  const decrypt = ['decrypt', 'oci:encrypted:v1', 'oci:decrypted:v1', '--key', 'key.pem'];
  expect((await latchkey(...decrypt)).status).toBe(65);
  expect(await readdir(at('decrypted', 'blobs', 'sha256'))).toEqual([]);
  expect(first!.size).toBeGreaterThan(0);

  bytes[100]! ^= 1;
  await writeFile(path, bytes);
  expect((await latchkey(...decrypt)).status).toBe(0);
  const before = await readdir(at('decrypted', 'blobs', 'sha256'));
  bytes[100]! ^= 1;
  await writeFile(path, bytes);
  expect((await latchkey(...decrypt)).status).toBe(65);
  expect(await readdir(at('decrypted', 'blobs', 'sha256'))).toEqual(before);
});
