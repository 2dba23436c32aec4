import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type Clock, systemClock } from '#src/base/clock.ts';
import { LatchkeyError } from '#src/base/errors.ts';
import { type OfflineBundleFile, parseOfflineBundleFile } from '#src/licensing/offline-bundle.ts';
import { startKeyServer } from '../../lab/keyserver.ts';
import { openBundle } from '../../shim/agent/offline-bundle.ts';
import { DAY_MS, OfflineSite, bytesOf, codeOf } from '../fakes/offline-site.ts';
import type { SoldProduct } from '../fakes/sold-product.ts';
import { temporaryDirectory } from '../fakes/temporary-directory.ts';

const directory = temporaryDirectory();
let site: OfflineSite;
let sold: SoldProduct;

beforeAll(async () => {
  site = await OfflineSite.open(directory);
  ({ sold } = site);
});
afterEach(() => {
  site.stopNodes();
});
afterAll(() => site.close());

describe('a bundle is refused', () => {
  test('on another node, twice, and when a newer one was taken', async () => {
    const { node, license, file } = await site.startCarried('a');
    const other = await site.start('b');
    const { offline } = node.agent;
    expect(await codeOf(other.agent.offline.importOffline(bytesOf(file)))).toBe('DENIED_LEASE_INVALID');
    expect(await codeOf(offline.importOffline(bytesOf(file)))).toBe('DENIED_REPLAY');
    const second = await site.checkOut(license.id, DAY_MS, node);
    const third = await site.checkOut(license.id, DAY_MS, node);
    expect((await offline.importOffline(bytesOf(third))).claims.sequence).toBe(3);
    expect(await codeOf(offline.importOffline(bytesOf(second)))).toBe('DENIED_REPLAY');
    const again = await site.restart(node, 'a');
    expect(again.agent.offline.bundles.map(({ claims }) => claims.sequence)).toEqual([3]);
    expect(await codeOf(again.agent.offline.importOffline(bytesOf(second)))).toBe('DENIED_REPLAY');
  });

  test('after its end, and by a node whose clock is before it was made', async () => {
    let offMs = 0;
    const clock: Clock = { ...systemClock, nowMs: () => Date.now() + offMs };
    const node = await site.start('a', { clock });
    const { license } = await sold.sell();
    const file = await site.checkOut(license.id, DAY_MS, node);
    offMs = -DAY_MS;
    expect(await codeOf(node.agent.offline.importOffline(bytesOf(file)))).toBe('DENIED_CLOCK_ROLLBACK');
    offMs = DAY_MS;
    expect(await codeOf(node.agent.offline.importOffline(bytesOf(file)))).toBe('DENIED_LEASE_EXPIRED');
    expect(node.agent.identity).toBeUndefined();
    offMs = 0;
    expect(await codeOf(node.agent.offline.importOffline(bytesOf(file)))).toBe('OK');
  });

  test('when any bit of what counts was changed (property)', async () => {
    const { node, file, bundle } = await site.startCarried('a');
    const thumbprint = bundle.claims.nodeKeyThumbprint;
    const open = (changed: OfflineBundleFile) =>
      openBundle(changed, node.agent.identity!.authorityPem, thumbprint);
    expect((await open(file)).claims).toEqual(bundle.claims);
    const [only] = file.bundles;
    const flipped = (text: string, encoding: BufferEncoding, at: number) => {
      const bytes = Buffer.from(text, encoding);
      const index = at % (bytes.length * 8);
      bytes[index >> 3]! ^= 1 << (index & 7);
      return bytes.toString(encoding);
    };
    await fc.assert(
      fc.asyncProperty(fc.constantFrom('token', 'signer', 'statement'), fc.nat(), async (part, at) => {
        const parts = only!.token.split('.');
        const token = parts.with(at % 3, flipped(parts[at % 3]!, 'base64url', at)).join('.');
        const [imageKeyId, statement] = Object.entries(file.statements)[0]!;
        const changed: OfflineBundleFile = {
          ...file,
          ...(part === 'token' ? { bundles: [{ ...only!, token }] } : {}),
          ...(part === 'signer' ? { signerCertificate: flipped(file.signerCertificate, 'base64', at) } : {}),
          ...(part === 'statement' ? { statements: { [imageKeyId]: flipped(statement, 'base64', at) } } : {}),
        };
        const outcome = await open(changed).then(
          ({ claims }) => claims,
          (error: unknown) => error,
        );
        if (outcome instanceof LatchkeyError) return;
        // What is not covered by a signature says nothing either, such as a field of a statement's envelope.
        expect(outcome).toEqual(bundle.claims);
      }),
      { numRuns: 300 },
    );
  });

  test('from another vendor, and with leases of another bundle', async () => {
    const { node, file, bundle } = await site.startCarried('a');
    const foreign = await startKeyServer();
    try {
      const thumbprint = bundle.claims.nodeKeyThumbprint;
      expect(await codeOf(openBundle(file, foreign.authorityPem, thumbprint))).toBe('DENIED_LEASE_INVALID');
      const nodeCertificate = node.agent.identity!.certificatePem.replaceAll(/-----[^-]+-----|\n/gu, '');
      const signedByNode = { ...file, signerCertificate: nodeCertificate };
      expect(await codeOf(openBundle(signedByNode, site.server.authorityPem, thumbprint))).toBe(
        'DENIED_LEASE_INVALID',
      );
    } finally {
      await foreign.dispose();
    }
  });

  test.each([
    ['nothing', Buffer.from('')],
    ['no JSON', Buffer.from('{')],
    ['another file', Buffer.from('{"kind":"latchkey-offline-request","version":1,"requests":["a"]}')],
    ['something huge', Buffer.alloc(4_000_000, '[')],
  ])('that is %s', async (_case, bytes) => {
    const node = await site.start('a');
    expect(await codeOf(node.agent.offline.importOffline(bytes))).toMatch(
      /^INPUT_MALFORMED|^LIMIT_EXCEEDED/u,
    );
    expect(() => parseOfflineBundleFile(bytes, 'file')).toThrow(LatchkeyError);
  });
});
