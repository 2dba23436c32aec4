/** Keys on a token as people name them: where the PIN comes from, and the configuration that lets a module load. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { openLayout } from '#src/store/layout.ts';
import { type CommandOutcome, runLatchkey } from '../fakes/command-line.ts';
import { vectorKeyPath } from '../fakes/ocicrypt-vector.ts';
import { type SoftToken, TOKEN_PIN, createSoftToken, softTokenSkipReason } from '../fakes/soft-token.ts';
import { realLayer, storeRealImage } from '../image/real-image.ts';

const NOTHING_ALLOWED = 'pkcs11: {}\n';
const reason = softTokenSkipReason();

describe.skipIf(reason !== '')(`latchkey decrypt with a token${reason}`, () => {
  let directory: string;
  let token: SoftToken;
  let runs = 0;
  const at = (name: string) => join(directory, name);

  function latchkey(args: readonly string[], env: Record<string, string>): Promise<CommandOutcome> {
    // The paths of the machine that runs the test are none of its business.
    const nowhere = { HOME: at('none'), XDG_CONFIG_HOME: '', OCICRYPT_CONFIG: '' };
    return runLatchkey(args, {
      directory,
      env: { ...nowhere, ...token.moduleEnvironment, OCICRYPT_OAEP_HASHALG: 'sha1', ...env },
    });
  }

  function decrypt(query: string, env: Record<string, string>): Promise<CommandOutcome> {
    runs += 1;
    const key = `${token.path}?module-name=softhsm2&${query}`;
    return latchkey(['decrypt', 'oci:sealed:v1', `oci:plain-${runs}:v1`, '--key', key], env);
  }

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'latchkey-token-'));
    token = await createSoftToken(directory);
    const layers = [await realLayer(MEDIA_TYPE.ociLayerGzip)];
    const config = { config: { Cmd: ['/bin/true'] } };
    await storeRealImage(openLayout(at('source')), layers, { tag: 'v1', config });
    const recipient = `pkcs11:${vectorKeyPath('token.pub.pem')}`;
    const sealed = await latchkey(
      ['encrypt', 'oci:source:v1', 'oci:sealed:v1', '--recipient', recipient],
      {},
    );
    expect(sealed).toMatchObject({ status: 0 });
    const allowed = `${dirname(token.modulePath)}/`;
    const configuration = `pkcs11:\n  module-directories: ['${allowed}']\n  allowed-module-paths: ['${allowed}']\n`;
    for (const [name, text] of [
      ['allowing', configuration],
      ['denying', NOTHING_ALLOWED],
    ] as const) {
      await mkdir(at(join(name, '.config')), { recursive: true });
      await writeFile(at(join(name, 'ocicrypt.conf')), text);
      await writeFile(at(join(name, '.config', 'ocicrypt.conf')), text);
    }
    await writeFile(at('pin'), `${TOKEN_PIN}\n`);
    await writeFile(at('wrong'), 'S3CRET');
  });

  afterAll(() => rm(directory, { recursive: true, force: true }));

  test.each<[string, () => Record<string, string>]>([
    ['a variable', () => ({ OCICRYPT_CONFIG: at('allowing/ocicrypt.conf'), HOME: at('denying') })],
    ['$XDG_CONFIG_HOME', () => ({ XDG_CONFIG_HOME: at('allowing'), HOME: at('denying') })],
    ['$HOME/.config', () => ({ HOME: at('allowing') })],
    [
      '$HOME/.config, when there is none before',
      () => ({ XDG_CONFIG_HOME: at('none'), HOME: at('allowing') }),
    ],
  ])('loads the module that the configuration of %s allows', async (_where, env) => {
    expect(await decrypt(`pin-source=${at('pin')}`, env())).toMatchObject({ status: 0 });
  });

  test.each<[string, () => Record<string, string>]>([
    ['a variable', () => ({ OCICRYPT_CONFIG: at('denying/ocicrypt.conf'), HOME: at('allowing') })],
    ['$XDG_CONFIG_HOME', () => ({ XDG_CONFIG_HOME: at('denying'), HOME: at('allowing') })],
  ])('loads none that the configuration of %s does not allow, whatever another says', async (_where, env) => {
    const { status, stderr } = await decrypt(`pin-source=${at('pin')}`, env());
    expect(status).not.toBe(0);
    expect(stderr).toContain('KEY_NOT_FOUND: there is no PKCS#11 module "softhsm2"');
  });

  test.each([
    ['as a path', () => at('pin')],
    ['as a URL', () => `file://${at('pin')}`],
  ])('reads the PIN from a file named %s, and says nothing of it', async (_how, source) => {
    const { status, stderr } = await decrypt(`pin-source=${source()}`, { OCICRYPT_CONFIG: 'internal' });
    expect({ status, stderr }).toEqual({ status: 0, stderr: expect.not.stringContaining('note:') as string });
  });

  test.each([
    ['has another PIN', 'wrong', /KEY_INVALID: .*the token does not accept the PIN/],
    ['is not there', 'none', /STATE_NOT_FOUND: the password file .*none cannot be read/],
  ])('says that the file of the PIN %s, and never what is in it', async (_what, name, message) => {
    const { status, stderr } = await decrypt(`pin-source=${at(name)}`, { OCICRYPT_CONFIG: 'internal' });
    expect(status).not.toBe(0);
    expect(stderr).toMatch(message);
    expect(stderr).not.toContain('S3CRET');
  });
});
