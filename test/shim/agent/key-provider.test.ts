/** The node as a key provider: real sockets and leases, a scripted key server. */
import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_PROVIDER_MESSAGE_BYTES } from '#src/base/limits.ts';
import { formatPrivateOptions } from '#src/crypto/layer-options.ts';
import { createLatchkeyWrapper } from '#src/keywrap/latchkey.ts';
import { formatUnwrapRequest, formatWrapRequest, parseUnwrapAnswer } from '#src/keywrap/provider-protocol.ts';
import { digestOf } from '#src/oci/digest.ts';
import { askKeyProvider } from '#src/wire/key-provider-connection.ts';
import { type KeyProviderSocket, serveKeyProvider } from '../../../shim/agent/key-provider-socket.ts';
import { type KeyProviderEvent, keyProviderHandlers } from '../../../shim/agent/key-provider.ts';
import { LeaseKeeper } from '../../../shim/agent/lease-keeper.ts';
import { LeaseIssuer } from '../../fakes/lease-issuer.ts';
import { manualClock } from '../../fakes/manual-clock.ts';

const OPTIONS = formatPrivateOptions({
  symmetricKey: randomBytes(32),
  nonce: randomBytes(16),
  plainDigest: digestOf('layer'),
});
const IMAGE_KEY = randomBytes(32);
const OWNER = { imageKeyId: 'ik-1', organizationId: 'org-1', contact: 'help@acme.example' };

let directory: string;
let socketPath: string;
let issuer: LeaseIssuer;
let keeper: LeaseKeeper;
let events: KeyProviderEvent[];
let socket: KeyProviderSocket;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'lk-kp-'));
  socketPath = join(directory, 'kp.sock');
  const clock = manualClock();
  issuer = new LeaseIssuer(clock);
  issuer.imageKeys.set('ik-1', IMAGE_KEY);
  keeper = new LeaseKeeper(clock, { onEnded: () => undefined });
  keeper.setAuthority(issuer.authority());
  events = [];
  socket = await serveKeyProvider(
    socketPath,
    keyProviderHandlers(keeper, (event) => events.push(event)),
  );
});

afterEach(async () => {
  await socket.close();
  await rm(directory, { recursive: true, force: true });
});

function element(owner = OWNER, imageKey = IMAGE_KEY): Promise<Uint8Array> {
  return createLatchkeyWrapper(owner, imageKey).wrap(OPTIONS);
}

function ask(document: Uint8Array): Promise<Uint8Array> {
  return askKeyProvider(socketPath, document, new AbortController().signal);
}

const unwrapRequest = (wrapped: Uint8Array) => formatUnwrapRequest('latchkey', undefined, wrapped);

describe('the service', () => {
  test('opens elements under one lease for all layers of a key', async () => {
    for (let layer = 0; layer < 3; layer += 1) {
      const answer = await ask(unwrapRequest(await element()));
      expect(Buffer.from(parseUnwrapAnswer(answer))).toEqual(Buffer.from(OPTIONS));
    }
    expect(issuer.acquired).toBe(1);
    expect(events).toHaveLength(3);
    expect(events[0]).toMatchObject({ imageKeyId: 'ik-1', licenseId: 'lic-1' });
  });

  test('says a denial with code, license and contact', async () => {
    issuer.refusal = new LatchkeyError('DENIED_LICENSE_REVOKED', 'license lic-1 is revoked', {
      licenseId: 'lic-1',
      contact: 'help@acme.example',
    });
    await expect(ask(unwrapRequest(await element()))).rejects.toMatchObject({
      code: 'DENIED_LICENSE_REVOKED',
      licenseId: 'lic-1',
      contact: 'help@acme.example',
    });
    expect(events).toMatchObject([{ error: { code: 'DENIED_LICENSE_REVOKED' } }]);
  });

  test('asks again after a revocation has ended the lease', async () => {
    await ask(unwrapRequest(await element()));
    keeper.endAll(new LatchkeyError('DENIED_LICENSE_REVOKED', 'license lic-1 is revoked'));
    issuer.refusal = new LatchkeyError('DENIED_LICENSE_REVOKED', 'license lic-1 is revoked');
    await expect(ask(unwrapRequest(await element()))).rejects.toMatchObject({
      code: 'DENIED_LICENSE_REVOKED',
    });
  });

  test('names the contact of the element on a node without any license', async () => {
    const handlers = keyProviderHandlers(
      new LeaseKeeper(manualClock(), { onEnded: () => undefined }),
      () => undefined,
    );
    const path = join(directory, 'new.sock');
    const unlicensed = await serveKeyProvider(path, handlers);
    const answer = askKeyProvider(path, unwrapRequest(await element()), new AbortController().signal);
    await expect(answer).rejects.toMatchObject({
      code: 'DENIED_NODE_NOT_ACTIVATED',
      contact: 'help@acme.example',
    });
    await unlicensed.close();
  });

  test('opens nothing that was sealed with another key, or changed', async () => {
    const foreign = ask(unwrapRequest(await element(OWNER, randomBytes(32))));
    await expect(foreign).rejects.toMatchObject({ code: 'CRYPTO_AUTHENTICATION_FAILED' });
    const text = Buffer.from(await element()).toString();
    const changed = Buffer.from(text.replace('help@acme', 'evil@acme'));
    await expect(ask(unwrapRequest(changed))).rejects.toMatchObject({ code: 'CRYPTO_AUTHENTICATION_FAILED' });
  });

  test('does not wrap, and says what does', async () => {
    await expect(ask(formatWrapRequest('latchkey', 'x', OPTIONS))).rejects.toMatchObject({
      code: 'INPUT_UNSUPPORTED',
      hint: expect.stringContaining('latchkey keyprovider') as string,
    });
  });

  test('takes no request that is longer than the protocol needs', async () => {
    const work = ask(Buffer.alloc(MAX_PROVIDER_MESSAGE_BYTES + 1, ' '));
    await expect(work).rejects.toThrow(/Received message larger than max/);
    // No handler was asked.
    expect(events).toEqual([]);
  });

  test('answers noise with an error and lives on', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (noise) => {
        await expect(ask(noise)).rejects.toMatchObject({ code: expect.stringMatching(/^INPUT_/) as string });
        await expect(ask(unwrapRequest(noise))).rejects.toMatchObject({
          code: expect.stringMatching(/^INPUT_/) as string,
        });
      }),
      { numRuns: 20 },
    );
    await ask(unwrapRequest(await element()));
  });
});

describe('the socket', () => {
  test('is for its owner alone, and nothing else is left beside it', async () => {
    const { mode } = await stat(socketPath);
    expect(mode & 0o777).toBe(0o600);
    expect(await readdir(directory)).toEqual(['kp.sock']);
  });

  test('goes when the service ends', async () => {
    await socket.close();
    expect(await readdir(directory)).toEqual([]);
    await expect(ask(unwrapRequest(await element()))).rejects.toMatchObject({
      code: 'NET_UNREACHABLE',
      hint: expect.stringContaining('[key_provider]') as string,
    });
    socket = await serveKeyProvider(
      socketPath,
      keyProviderHandlers(keeper, () => undefined),
    );
  });

  test('of another program is not taken', async () => {
    const handlers = keyProviderHandlers(keeper, () => undefined);
    await expect(serveKeyProvider(socketPath, handlers)).rejects.toMatchObject({ code: 'STATE_CONFLICT' });
    await ask(unwrapRequest(await element()));
  });

  test('that a crash has left is replaced', async () => {
    const path = join(directory, 'stale.sock');
    const stale = createServer();
    await new Promise<void>((resolve) => stale.listen(path, resolve));
    // As a crash leaves it: nobody listens and nobody removes the file.
    await rename(path, `${path}.kept`);
    await new Promise((resolve) => stale.close(resolve));
    await rename(`${path}.kept`, path);
    const again = await serveKeyProvider(
      path,
      keyProviderHandlers(keeper, () => undefined),
    );
    await askKeyProvider(path, unwrapRequest(await element()), new AbortController().signal);
    await again.close();
  });

  test.each([
    ['a file', async (path: string) => writeFile(path, 'precious'), /something else/],
    ['nothing, in a directory that is not there', async () => undefined, /directory/],
  ])('cannot be where there is %s', async (what, prepare, message) => {
    const path = join(directory, what === 'a file' ? 'file' : 'missing/kp.sock');
    await prepare(path);
    const serving = serveKeyProvider(
      path,
      keyProviderHandlers(keeper, () => undefined),
    );
    await expect(serving).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
    await expect(serving).rejects.toThrow(message);
  });
});
