import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { parsePkcs11Uri } from '#src/keywrap/pkcs11-uri.ts';
import { TokenNodeKey } from '../../../shim/agent/token-key.ts';
import { TOKEN_PIN, createEmptyToken, softTokenSkipReason } from '../../fakes/soft-token.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const skipReason = softTokenSkipReason();
const directory = temporaryDirectory();

describe.skipIf(skipReason !== '')(`a PIN that the token refuses${skipReason}`, () => {
  afterEach(() => {
    vi.unstubAllEnvs();
    vi.restoreAllMocks();
  });

  test('is presented once, however many want the key in one moment', async () => {
    const { modulePath, moduleEnvironment } = await createEmptyToken(directory());
    for (const [name, value] of Object.entries(moduleEnvironment)) vi.stubEnv(name, value);
    const pinSource = join(directory(), 'pin');
    await writeFile(pinSource, `${TOKEN_PIN}\n`);
    const uri = parsePkcs11Uri(`pkcs11:token=acme;object=node?module-path=${modulePath}`);
    const key = new TokenNodeKey({ ...uri, object: 'node', pinSource });
    await key.prepare();
    await writeFile(pinSource, '9999\n');
    const { Session } = createRequire(import.meta.url)('graphene-pk11') as typeof import('graphene-pk11');
    const login = vi.spyOn(Session.prototype, 'login');
    const asked = await Promise.allSettled(Array.from({ length: 5 }, () => key.sign(randomBytes(8))));
    for (const { status } of asked) expect(status).toBe('rejected');
    expect(login).toHaveBeenCalledTimes(1);
    await writeFile(pinSource, `${TOKEN_PIN}\n`);
    expect(await key.sign(randomBytes(8))).toHaveLength(64);
  });
});
