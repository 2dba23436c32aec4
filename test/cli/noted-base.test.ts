/** A base image counts as public only when everybody can read it, whatever this user can. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { parseReference } from '#src/oci/reference.ts';
import { openRegistry } from '#src/registry/registry-store.ts';
import { copyImage } from '#src/store/copy.ts';
import { openLayout } from '#src/store/layout.ts';
import { runLatchkey } from '../fakes/command-line.ts';
import { startFakeRegistry } from '../fakes/registry.ts';
import { temporaryDirectory } from '../fakes/temporary-directory.ts';
import { realLayer, storeRealImage } from '../image/real-image.ts';

const USERNAME = 'release';
const PASSWORD = 'correct:horse';

const directory = temporaryDirectory();

/** What a dry run says of the layers, from the base up. */
async function encryptedLayers(...options: string[]): Promise<{ layers: boolean[]; notes: string[] }> {
  const args = ['encrypt', 'oci:app:v1', 'oci:out:v1', '--recipient', 'jwe:key.pub.pem', '--dry-run'];
  const { stdout, stderr } = await runLatchkey([...args, '--json', ...options], {
    directory: directory(),
    env: { DOCKER_CONFIG: directory() },
  });
  expect(stderr).toBe('');
  const plan = JSON.parse(stdout) as { platforms: { layers: { encrypted: boolean }[] }[]; notes: string[] };
  return { layers: plan.platforms[0]!.layers.map(({ encrypted }) => encrypted), notes: plan.notes };
}

test.each([
  ['asks for a login that this user has', { user: USERNAME, password: PASSWORD }, true],
  ['lets everybody read', undefined, false],
])('a noted base in a registry that %s', async (_what, login, isEncrypted) => {
  const registry = await startFakeRegistry({ kind: 'bearer', field: 'token', login, issued: new Map() });
  try {
    const at = (name: string) => openLayout(join(directory(), name));
    const name = `${registry.host}/team/base:1`;
    const base = await realLayer(MEDIA_TYPE.ociLayerGzip);
    const annotations = { 'org.opencontainers.image.base.name': name };
    const layers = [base, await realLayer(MEDIA_TYPE.ociLayerGzip)];
    await storeRealImage(at('app'), layers, { tag: 'v1', manifest: { annotations } });
    await storeRealImage(at('base'), [base], { tag: 'v1' });
    const credentials = async () => ({ kind: 'password', username: USERNAME, password: PASSWORD }) as const;
    const pushed = openRegistry(parseReference(name), { credentials });
    await copyImage(at('base'), pushed, { reference: 'v1', tag: '1' });
    const auth = Buffer.from(`${USERNAME}:${PASSWORD}`).toString('base64');
    const config = { auths: { [registry.host]: { auth } } };
    await writeFile(join(directory(), 'config.json'), JSON.stringify(config));
    await runLatchkey(['keygen', 'key'], { directory: directory() });

    const note = isEncrypted ? /cannot be read by everybody.*encrypted too/ : /built on .* stay plain/;
    expect(await encryptedLayers()).toEqual({
      layers: [isEncrypted, true],
      notes: [expect.stringMatching(note)],
    });
    // The login is the right one: a base that the user names is read with it.
    expect((await encryptedLayers('--base', name)).layers).toEqual([false, true]);
  } finally {
    await registry.stop();
  }
});
