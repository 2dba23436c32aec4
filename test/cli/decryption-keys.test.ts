/** `--key` as people use it: kinds of keys, where passwords come from, and what is said when nothing opens. */
import { execFile } from 'node:child_process';
import { createPrivateKey } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { openLayout } from '#src/store/layout.ts';
import { PGP_PASSWORD, readVectorKey, vectorKeyPath } from '../fakes/ocicrypt-vector.ts';
import { realLayer, storeRealImage } from '../image/real-image.ts';

const LATCHKEY = join(import.meta.dirname, '..', '..', 'cli', 'latchkey.js');
const PASSWORD = 'correct horse';

interface Outcome {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

let directory: string;
let runs = 0;
const at = (name: string) => join(directory, name);

function shell(command: string): Promise<Outcome> {
  const env = { ...process.env, XDG_CACHE_HOME: at('cache') };
  return new Promise((resolve) => {
    execFile('sh', ['-c', command], { env, cwd: directory }, (error, stdout, stderr) => {
      resolve({ status: error === null ? 0 : Number(error.code), stdout, stderr });
    });
  });
}

/** Decrypts the image of that name with words of a shell. */
function decrypt(image: string, words: string): Promise<Outcome> {
  runs += 1;
  return shell(`'${process.execPath}' '${LATCHKEY}' decrypt oci:${image}:v1 oci:plain-${runs}:v1 ${words}`);
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-keys-'));
  const config = { config: { Cmd: ['/bin/true'] } };
  const layers = [await realLayer(MEDIA_TYPE.ociLayerGzip)];
  await storeRealImage(openLayout(at('source')), layers, { tag: 'v1', config });
  const recipients = {
    jwe: ['jwe:', 'ec.pub.pem'],
    pkcs7: ['pkcs7:', 'rsa.crt'],
    pgp: ['pgp:', 'pgp.pub.gpg'],
  };
  for (const [image, [scheme = '', file = '']] of Object.entries(recipients)) {
    const recipient = `${scheme}${vectorKeyPath(file)}`;
    const command = `encrypt oci:source:v1 oci:${image}:v1 --recipient '${recipient}'`;
    expect(await shell(`'${process.execPath}' '${LATCHKEY}' ${command}`)).toMatchObject({ status: 0 });
  }
  const protection = { cipher: 'aes-256-cbc', passphrase: PASSWORD } as const;
  const key = createPrivateKey(readVectorKey('ec.pem'));
  await writeFile(at('locked.pem'), key.export({ format: 'pem', type: 'pkcs8', ...protection }));
  await writeFile(at('password'), `${PASSWORD}\n`);
  await writeFile(at('wrong'), 'S3CRET-wrong');
});

afterAll(() => rm(directory, { recursive: true, force: true }));

const key = (name: string) => `--key '${vectorKeyPath(name)}'`;

describe('latchkey decrypt', () => {
  test.each([
    ['a file', '--key locked.pem:file=password'],
    ['an open file', '--key locked.pem:fd=3 3<password'],
    ['a pipe', `--key locked.pem:fd=0 <<EOF\n${PASSWORD}\nEOF`],
    ['an open file beside another key', `${key('rsa.pem')} --key locked.pem:fd=9 9<password`],
  ])('reads a password from %s, and says nothing of it', async (_where, words) => {
    const { status, stderr } = await decrypt('jwe', words);
    expect({ status, stderr }).toEqual({ status: 0, stderr: expect.not.stringContaining('note:') as string });
  });

  test.each(['pass=correct horse', 'correct horse'])(
    'takes a password on the command line (%s), noting that others see it',
    async (password) => {
      const { status, stderr } = await decrypt('jwe', `--key 'locked.pem:${password}'`);
      expect(status).toBe(0);
      expect(stderr).toContain('note: other users of this machine can read a password on the command line');
    },
  );

  test.each([
    ['without its password', '--key locked.pem', /KEY_INVALID: locked\.pem is protected by a password/],
    ['with a wrong password', '--key locked.pem:file=wrong', /locked\.pem does not open with this password/],
    ['with a wrong word', "--key 'locked.pem:S3CRET'", /locked\.pem does not open with this password/],
    ['without the password file', '--key locked.pem:file=none', /the password file none cannot be read/],
    ['from a file that is not open', '--key locked.pem:fd=77', /fd=77 cannot be read/],
    [
      'with a wrong PGP password',
      `--key '${vectorKeyPath('pgp-locked.gpg')}:S3CRET'`,
      /does not open with this/,
    ],
    ['and no private key', key('rsa.crt'), /no private key was given for the certificate/],
    ['but a public key', key('ec.pub.pem'), /is a public key where the private one is needed/],
    ['but nothing', '', /USAGE_INVALID: a key is needed to decrypt/],
    ['but a file that is not there', '--key none.pem', /STATE_NOT_FOUND: there is no key file none\.pem/],
    ['but a directory', '--key .', /KEY_INVALID: \. is a directory/],
    ['but one written like a recipient', "--key 'jwe:S3CRET'", /USAGE_INVALID: --key takes the file itself/],
    ['but a name in the keyring', '--key pgp:alice', /gpg --export-secret-keys/],
    ['but a device', '--key /dev/zero', /larger than 1048576 bytes: it is no key file/],
    ['but a token without PIN', "--key 'pkcs11:token=t;object=k?module-name=m'", /CONFIG_INVALID|KEY_/],
  ])('says in one line what is wrong %s', async (_what, words, message) => {
    const { status, stderr } = await decrypt('jwe', words);
    expect(status).not.toBe(0);
    expect(stderr).toMatch(message);
    expect(stderr).not.toContain('S3CRET');
    const lines = stderr.split('\n').filter((line) => line.startsWith('latchkey: '));
    expect(lines).toEqual([expect.stringMatching(/^latchkey: [A-Z_]+: .+; .+$/)]);
    expect(existsSync(at(`plain-${runs}`))).toBe(false);
  });

  test('opens pkcs7 with key and certificate, in one file or two', async () => {
    await writeFile(at('both.pem'), Buffer.concat([readVectorKey('rsa.crt'), readVectorKey('rsa.pem')]));
    for (const words of ['--key both.pem', `${key('rsa.pem')} ${key('rsa.crt')}`]) {
      expect(await decrypt('pkcs7', words)).toMatchObject({ status: 0 });
    }
  });

  test('opens pgp with the one of several keys that fits', async () => {
    const locked = `--key '${vectorKeyPath('pgp-locked.gpg')}:file=pgp-password'`;
    await writeFile(at('pgp-password'), PGP_PASSWORD);
    expect(await decrypt('pgp', `${locked} ${key('ec.pem')} ${key('pgp.asc')}`)).toMatchObject({ status: 0 });
  });

  test.each([
    ['jwe', key('ec384.pem'), 'no key opens layer 0: it is wrapped by jwe (not for this key)'],
    ['pgp', key('ec.pem'), 'no key opens layer 0: it is wrapped by pgp (no key was given for it)'],
    [
      'pkcs7',
      key('rsa.pem'),
      'it is wrapped by pkcs7 (no certificate was given for it, beside its private key)',
    ],
    ['pkcs7', `${key('token.pem')} ${key('token.crt')}`, 'it is wrapped by pkcs7 (not for this key)'],
  ])('says of each scheme of a layer why it does not open: %s', async (image, words, message) => {
    const { status, stderr } = await decrypt(image, words);
    expect(status).toBe(77);
    expect(stderr).toContain(`KEY_NOT_FOUND: `);
    expect(stderr).toContain(message);
  });
});
