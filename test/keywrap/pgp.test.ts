import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import {
  type PrivateKey,
  type SecretKeyPacket,
  createMessage,
  encrypt,
  encryptKey,
  enums,
  generateKey,
  readMessage,
} from 'openpgp';
import { beforeAll, describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { parsePgpPrivateKeys, parsePgpPublicKeys, selectPgpRecipient } from '#src/keywrap/pgp-keys.ts';
import { createPgpUnwrapper, createPgpWrapper } from '#src/keywrap/pgp.ts';
import { PGP_PASSWORD, elementsOf, readVector, readVectorKey } from '../fakes/ocicrypt-vector.ts';

const secret = new Uint8Array(randomBytes(150));
const raises = (code: string, message = /./) =>
  expect.objectContaining({ code, message: expect.stringMatching(message) as string }) as unknown as Error;

let customer: PrivateKey;
let stranger: PrivateKey;

const makeKey = async (
  name: string,
  options: { readonly date?: Date; readonly keyExpirationTime?: number } = {},
) => {
  const userIDs = [{ name, email: `${name.toLowerCase()}@acme.example` }];
  return (await generateKey({ type: 'ecc', userIDs, format: 'object', ...options })).privateKey;
};

beforeAll(async () => {
  customer = await makeKey('Customer');
  stranger = await makeKey('Stranger');
});

describe('the pgp scheme', () => {
  test('writes one message for several keys, and each opens it', async () => {
    const element = await createPgpWrapper([customer.toPublic(), stranger.toPublic()]).wrap(secret);
    for (const key of [customer, stranger]) {
      expect(await createPgpUnwrapper([key]).unwrap(element)).toEqual(secret);
    }
  });

  test("writes what Go's older packages read: no newer packet, no compression", async () => {
    const element = await createPgpWrapper([customer.toPublic()]).wrap(secret);
    const { packets } = await readMessage({ binaryMessage: element });
    expect(packets.map((packet) => packet.constructor.name)).toEqual([
      'PublicKeyEncryptedSessionKeyPacket',
      'SymEncryptedIntegrityProtectedDataPacket',
    ]);
    expect((packets[1] as unknown as { version: number }).version).toBe(1);
  });

  test('is not for another key', async () => {
    const element = await createPgpWrapper([customer.toPublic()]).wrap(secret);
    expect(await createPgpUnwrapper([stranger]).unwrap(element)).toBeNull();
  });

  test('says that a message for it is damaged', async () => {
    const element = Buffer.from(await createPgpWrapper([customer.toPublic()]).wrap(secret));
    element[element.length - 3]! ^= 1;
    await expect(createPgpUnwrapper([customer]).unwrap(element)).rejects.toThrow(
      raises('CRYPTO_AUTHENTICATION_FAILED'),
    );
  });

  test('opens a message that does not name its recipients, when it is for the key', async () => {
    const element = (await encrypt({
      message: await createMessage({ binary: secret }),
      encryptionKeys: customer.toPublic(),
      wildcard: true,
      format: 'binary',
    })) as Uint8Array;
    expect(await createPgpUnwrapper([customer]).unwrap(element)).toEqual(secret);
    expect(await createPgpUnwrapper([stranger]).unwrap(element)).toBeNull();
  });

  test('refuses what would unpack to more than an annotation', async () => {
    const element = (await encrypt({
      message: await createMessage({ binary: new Uint8Array(20_000_000) }),
      encryptionKeys: customer.toPublic(),
      format: 'binary',
      config: { preferredCompressionAlgorithm: enums.compression.zlib },
    })) as Uint8Array;
    expect(element.length).toBeLessThan(64_000);
    await expect(createPgpUnwrapper([customer]).unwrap(element)).rejects.toThrow(
      raises('CRYPTO_AUTHENTICATION_FAILED'),
    );
  });

  test('refuses too many recipients before trying one', async () => {
    const element = await createPgpWrapper([customer.toPublic()]).wrap(secret);
    const bytes = Buffer.from(element);
    const first = bytes.subarray(0, 2 + bytes[1]!);
    const many = Buffer.concat([...Array<Buffer>(33).fill(first), bytes]);
    await expect(createPgpUnwrapper([customer]).unwrap(many)).rejects.toThrow(raises('LIMIT_EXCEEDED'));
    await expect(createPgpUnwrapper([customer]).unwrap(Buffer.alloc(100_000))).rejects.toThrow(
      raises('LIMIT_EXCEEDED'),
    );
  });

  test('gives nothing but our own error for hostile bytes', async () => {
    const [element] = elementsOf(readVector('skopeo-pgp'), 'pgp');
    const keys = await parsePgpPrivateKeys(readVectorKey('pgp.asc'), 'pgp.asc');
    const original = await createPgpUnwrapper(keys).unwrap(element!);
    const changed = fc
      .tuple(fc.nat(element!.length - 1), fc.integer({ min: 1, max: 255 }))
      .map(([position, mask]) => element!.map((byte, index) => (index === position ? byte ^ mask : byte)));
    const truncated = fc.nat(element!.length - 1).map((length) => element!.subarray(0, length));
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.uint8Array({ maxLength: 200 }), changed, truncated), async (bytes) => {
        const opened = await createPgpUnwrapper(keys)
          .unwrap(bytes)
          .catch((error: unknown) => error);
        // Another recipient's packet may be the one that changed.
        if (opened instanceof Uint8Array) expect(opened).toEqual(original);
        else if (opened !== null) expect(opened).toBeInstanceOf(LatchkeyError);
      }),
      { numRuns: 150 },
    );
  });
});

describe('PGP key files', () => {
  test('are read armored and binary, with and without a password', async () => {
    expect(await parsePgpPrivateKeys(readVectorKey('pgp.asc'), 'k')).toHaveLength(1);
    const [locked] = await parsePgpPrivateKeys(readVectorKey('pgp-locked.gpg'), 'k', PGP_PASSWORD);
    expect(locked?.isDecrypted()).toBe(true);
    expect(await parsePgpPublicKeys(readVectorKey('pgp.pub.gpg'), 'k')).toHaveLength(1);
  });

  test('may protect a subkey alone', async () => {
    const mixed = await encryptKey({ privateKey: customer, passphrase: PGP_PASSWORD });
    await (mixed.keyPacket as SecretKeyPacket).decrypt(PGP_PASSWORD);
    const file = mixed.write();
    await expect(parsePgpPrivateKeys(file, 'k')).rejects.toThrow(raises('KEY_INVALID', /protected/));
    const keys = await parsePgpPrivateKeys(file, 'k', PGP_PASSWORD);
    const element = await createPgpWrapper([customer.toPublic()]).wrap(secret);
    expect(await createPgpUnwrapper(keys).unwrap(element)).toEqual(secret);
  });

  test('say what is wrong with them, and never the password', async () => {
    const locked = readVectorKey('pgp-locked.gpg');
    await expect(parsePgpPrivateKeys(locked, 'k')).rejects.toThrow(raises('KEY_INVALID', /protected/));
    const failed = parsePgpPrivateKeys(locked, 'k', 'wrong secret');
    await expect(failed).rejects.toThrow(raises('KEY_INVALID', /does not open with this password/));
    await failed.catch((error: unknown) =>
      expect(JSON.stringify(describeAll(error))).not.toContain('wrong secret'),
    );
    await expect(parsePgpPrivateKeys(readVectorKey('pgp.pub.gpg'), 'k')).rejects.toThrow(
      raises('KEY_INVALID', /holds no PGP secret key/),
    );
    await expect(parsePgpPublicKeys(readVectorKey('pgp.asc'), 'k')).rejects.toThrow(
      raises('KEY_INVALID', /is a secret key/),
    );
    await expect(parsePgpPublicKeys(Buffer.from('noise'), 'k')).rejects.toThrow(
      raises('KEY_INVALID', /is not/),
    );
  });
});

function describeAll(error: unknown): unknown[] {
  return error instanceof Error ? [error.message, error.stack, ...describeAll(error.cause)] : [error];
}

describe('a PGP recipient', () => {
  test.each(['Customer', 'customer@acme.example'])('is found by %s', async (name) => {
    const { key } = await selectPgpRecipient([stranger, customer], name, 'the keyring');
    expect(key).toBe(customer);
  });

  test('is found by its fingerprint, as gpg prints it and without blanks', async () => {
    const fingerprint = customer.getFingerprint().toUpperCase();
    for (const name of [fingerprint, `0x${fingerprint}`, fingerprint.replaceAll(/(.{4})/g, '$1 ').trim()]) {
      expect((await selectPgpRecipient([stranger, customer], name, 'the keyring')).key).toBe(customer);
    }
  });

  test.each(['custom', '@acme.example', 'customer@acme.exampl', 'Nobody', ''])(
    'is not found by %j, a part or another name',
    async (name) => {
      await expect(selectPgpRecipient([customer], name, 'the keyring')).rejects.toThrow(
        raises('KEY_INVALID', /does not hold a key of/),
      );
    },
  );

  test('must be one key: two of the same name are named by their fingerprints', async () => {
    const twin = await makeKey('Customer');
    await expect(selectPgpRecipient([customer, twin], 'Customer', 'the keyring')).rejects.toThrow(
      expect.objectContaining({
        hint: expect.stringContaining(twin.getFingerprint().toUpperCase()) as string,
      }),
    );
  });

  test('is the key that is still valid', async () => {
    const expired = await makeKey('Customer', { date: new Date('2020-01-01'), keyExpirationTime: 1000 });
    expect((await selectPgpRecipient([expired, customer], 'Customer', 'the keyring')).key).toBe(customer);
    await expect(selectPgpRecipient([expired], 'Customer', 'the keyring')).rejects.toThrow(
      raises('KEY_INVALID', /cannot be encrypted to/),
    );
  });
});
