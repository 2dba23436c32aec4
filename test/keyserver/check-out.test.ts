import { X509Certificate } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { calculateJwkThumbprint, compactVerify } from 'jose';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MAX_OFFLINE_MS } from '#src/base/limits.ts';
import { openEnvelope } from '#src/crypto/envelope.ts';
import { leaseClaimsSchema } from '#src/licensing/lease-claims.ts';
import {
  LEASE_SIGNER_URI,
  type OfflineBundleClaims,
  type OfflineBundleFile,
  offlineBundleClaimsSchema,
  parseOfflineBundleFile,
} from '#src/licensing/offline-bundle.ts';
import type { Digest } from '#src/oci/digest.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { adminCommand } from '../fakes/admin-command.ts';
import { activateNode, createNodeKey } from '../fakes/licensed-node.ts';
import { offlineRequest } from '../fakes/offline-node.ts';
import {
  type SoldProduct,
  auditLog,
  createSoldProduct,
  randomDigest,
  registerImage,
} from '../fakes/sold-product.ts';

let server: TestKeyServer;
let sold: SoldProduct;

beforeAll(async () => {
  server = await startKeyServer();
  sold = await createSoldProduct(server);
});

afterAll(() => server.dispose());

/** The claims of a bundle, read as a node would: by the authority alone. */
async function open(file: OfflineBundleFile, index = 0): Promise<OfflineBundleClaims> {
  const signer = new X509Certificate(Buffer.from(file.signerCertificate, 'base64'));
  const authority = new X509Certificate(server.authorityPem);
  expect(signer.verify(authority.publicKey)).toBe(true);
  expect(signer.subjectAltName).toBe(`URI:${LEASE_SIGNER_URI}`);
  expect(signer.ca).toBe(false);
  const { payload } = await compactVerify(file.bundles[index]!.token, signer.publicKey);
  return offlineBundleClaimsSchema.parse(JSON.parse(Buffer.from(payload).toString()));
}

describe('a check-out', () => {
  test('enrols a node that was never here, and gives it leases that nobody else can use', async () => {
    const { license } = await sold.sell();
    const key = await createNodeKey();
    const before = Date.now();
    const { bundles, file } = await sold.client.checkOut(license.id, {
      requests: [offlineRequest(key)],
      lifeMs: 7_200_000,
    });
    const claims = await open(file);
    const node = (await sold.client.nodes()).find(({ id }) => id === claims.nodeId);
    expect(node).toMatchObject({ name: 'air-gapped', state: 'ACTIVE', licenseIds: [license.id] });
    const jwk = new X509Certificate(Buffer.from(claims.certificate!.der, 'base64')).publicKey.export({
      format: 'jwk',
    });
    const thumbprint = await calculateJwkThumbprint(jwk);
    expect(claims.nodeKeyThumbprint).toBe(thumbprint);
    expect(claims).toMatchObject({ sequence: 1, licenseId: license.id, productCode: sold.productCode });
    expect(claims.expiresAtMs).toBeGreaterThanOrEqual(before + 7_200_000);
    expect(claims.expiresAtMs).toBeLessThanOrEqual(Date.now() + 7_200_000);
    const [release] = claims.releases;
    const imageKey = await openEnvelope(release!.imageKeyJwe, key.privateKey, 'latchkey-image-key-lease');
    expect(Buffer.from(imageKey)).toEqual(Buffer.from(sold.image.imageKey));
    const signer = new X509Certificate(Buffer.from(file.signerCertificate, 'base64'));
    const { payload } = await compactVerify(release!.leases[0]!, signer.publicKey);
    const lease = leaseClaimsSchema.parse(JSON.parse(Buffer.from(payload).toString()));
    expect(lease).toMatchObject({
      imageDigest: sold.image.imageDigest,
      nodeId: claims.nodeId,
      epoch: claims.epoch,
      expiresAtMs: claims.expiresAtMs,
    });
    expect(file.statements[release!.imageKeyId]).toBeTypeOf('string');
    // The license was PENDING; the bundle is of the epoch that it has now.
    expect((await sold.client.license(license.id)).epoch).toBe(claims.epoch);
    expect((await sold.client.leases()).find(({ id }) => id === lease.leaseId)?.offlineBundleId).toBe(
      bundles[0]!.id,
    );
    const events = (await auditLog(sold.client)).filter(({ target }) => target === license.id);
    expect(events.map(({ action }) => action).slice(-2)).toEqual(['node.activate', 'license.check-out']);
    const { sequence, hash } = events.at(-1)!;
    expect(lease.receipt).toEqual({ sequence, hash });
    expect(events.at(-1)?.detail).toMatchObject({ bundleId: bundles[0]!.id, sequence: 1, leases: 1 });
  });

  test('knows a node again: no second seat, no second certificate, the next number', async () => {
    const { license, licenseKey } = await sold.sell({ maxNodes: 1 });
    const key = await createNodeKey();
    const online = await activateNode(server, licenseKey, { key });
    const first = await open(
      (await sold.client.checkOut(license.id, { requests: [offlineRequest(key)] })).file,
    );
    expect(first).toMatchObject({ nodeId: online.activation.nodeId, certificate: null, sequence: 1 });
    const { file } = await sold.client.checkOut(license.id, {
      requests: [offlineRequest(key, { lastSequence: 5 })],
    });
    // The node has seen more than this key server knows of, as after a restored backup.
    expect((await open(file)).sequence).toBe(6);
    expect((await sold.client.license(license.id)).usedNodes).toBe(1);
    const states = (await sold.client.offlineBundles(license.id)).map(({ sequence, state }) => [
      sequence,
      state,
    ]);
    expect(states.sort()).toEqual([
      [1, 'SUPERSEDED'],
      [6, 'ISSUED'],
    ]);
    await expect(
      sold.client.checkOut(license.id, { requests: [offlineRequest(await createNodeKey())] }),
    ).rejects.toMatchObject({ code: 'DENIED_NODE_LIMIT' });
    online.close();
  });

  test('never outlives its license, and is void when that changes', async () => {
    const expiresAtMs = Date.now() + 86_400_000;
    const { license } = await sold.sell({ expiresAtMs });
    const key = await createNodeKey();
    const { file } = await sold.client.checkOut(license.id, { requests: [offlineRequest(key)] });
    expect((await open(file)).expiresAtMs).toBe(expiresAtMs);
    const [node] = await sold.client.licenseNodes(license.id);
    expect(node?.canStartUntilMs).toBe(expiresAtMs);
    await sold.client.changeLicense(license.id, 'suspend');
    expect((await sold.client.offlineBundles(license.id))[0]?.state).toBe('VOID');
    // The node cannot know: it is shown for as long as it can go on.
    expect((await sold.client.licenseNodes(license.id))[0]).toMatchObject({
      hasAcknowledged: false,
      canStartUntilMs: expiresAtMs,
    });
  });

  test.each([
    ['suspended', (id: string) => sold.client.changeLicense(id, 'suspend'), 'DENIED_LICENSE_SUSPENDED'],
    ['revoked', (id: string) => sold.client.changeLicense(id, 'revoke'), 'DENIED_LICENSE_REVOKED'],
  ])('is refused for a license that is %s, and leaves nothing behind', async (_state, change, code) => {
    const { license, licenseKey } = await sold.sell();
    (await activateNode(server, licenseKey)).close();
    await change(license.id);
    const nodes = (await sold.client.nodes()).length;
    await expect(
      sold.client.checkOut(license.id, { requests: [offlineRequest(await createNodeKey())] }),
    ).rejects.toMatchObject({ code });
    expect(await sold.client.offlineBundles(license.id)).toEqual([]);
    expect((await sold.client.nodes()).length).toBe(nodes);
  });

  test('is refused to a node that is banned', async () => {
    const { license, licenseKey } = await sold.sell();
    const key = await createNodeKey();
    const node = await activateNode(server, licenseKey, { key });
    await sold.client.changeNode(node.activation.nodeId, 'ban');
    await expect(sold.client.checkOut(license.id, { requests: [offlineRequest(key)] })).rejects.toMatchObject(
      { code: 'DENIED_NODE_BANNED' },
    );
    node.close();
  });

  test('gives the images that were asked for, or none at all', async () => {
    const { license } = await sold.sell();
    const key = await createNodeKey();
    const asking = (...images: string[]) =>
      sold.client.checkOut(license.id, {
        requests: [offlineRequest(key, { images: images as Digest[] })],
      });
    const other = await registerImage(sold.client, sold.productCode);
    const claims = await open((await asking(other.imageDigest)).file);
    expect(claims.releases.map(({ imageKeyId }) => imageKeyId)).toEqual([other.imageKeyId]);
    await expect(asking(other.imageDigest, randomDigest())).rejects.toMatchObject({
      code: 'DENIED_IMAGE_UNKNOWN',
    });
    const releases = await sold.client.releases();
    const yanked = releases.find(({ imageKeyId }) => imageKeyId === other.imageKeyId)!;
    await sold.client.yankRelease(yanked.id);
    await expect(asking(other.imageDigest)).rejects.toMatchObject({ code: 'DENIED_IMAGE_YANKED' });
    const all = await open((await asking()).file);
    expect(all.releases.map(({ imageKeyId }) => imageKeyId)).not.toContain(other.imageKeyId);
  });

  test('takes the requests of a cluster at once: one bundle each, all or none', async () => {
    const { license } = await sold.sell({ maxNodes: 2 });
    const keys = [await createNodeKey('a'), await createNodeKey('b'), await createNodeKey('c')];
    const requests = keys.map((key) => offlineRequest(key));
    await expect(sold.client.checkOut(license.id, { requests })).rejects.toMatchObject({
      code: 'DENIED_NODE_LIMIT',
    });
    expect((await sold.client.license(license.id)).usedNodes).toBe(0);
    await expect(
      sold.client.checkOut(license.id, { requests: [requests[0]!, requests[0]!] }),
    ).rejects.toMatchObject({ code: 'USAGE_INVALID' });
    const { file } = await sold.client.checkOut(license.id, { requests: requests.slice(0, 2) });
    const nodes = [await open(file, 0), await open(file, 1)].map(({ nodeId }) => nodeId);
    expect(new Set(nodes).size).toBe(2);
    expect((await sold.client.license(license.id)).usedNodes).toBe(2);
  });
});

describe('a request is refused', () => {
  test.each([
    ['that is not one', () => 'nothing'],
    ['that was altered', (request: string) => request.replace(/\.(.)/u, (_, first: string) => `.${first}A`)],
    ['whose signature is cut', (request: string) => request.slice(0, -4)],
    [
      'whose signature is of another request',
      (request: string, other: string) =>
        `${request.split('.').slice(0, 2).join('.')}.${other.split('.')[2]!}`,
    ],
  ])('%s', async (_title, alter) => {
    const { license } = await sold.sell();
    const key = await createNodeKey();
    const altered = alter(offlineRequest(key), offlineRequest(key, { requestedAtMs: 2 }));
    await expect(sold.client.checkOut(license.id, { requests: [altered] })).rejects.toMatchObject({
      code: 'INPUT_MALFORMED',
    });
  });

  test('whose certificate request is of another key', async () => {
    const { license } = await sold.sell();
    const [own, foreign] = [await createNodeKey(), await createNodeKey()];
    const request = offlineRequest({ ...own, requestDer: foreign.requestDer });
    await expect(sold.client.checkOut(license.id, { requests: [request] })).rejects.toMatchObject({
      code: 'INPUT_MALFORMED',
    });
  });

  test('that wants more than a year', async () => {
    const { license } = await sold.sell();
    await expect(
      sold.client.checkOut(license.id, {
        requests: [offlineRequest(await createNodeKey())],
        lifeMs: MAX_OFFLINE_MS + 1,
      }),
    ).rejects.toMatchObject({ code: 'USAGE_INVALID' });
  });
});

test('`license check-out` reads request files and writes one bundle file, which it never overwrites', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'latchkey-check-out-'));
  try {
    const { license } = await sold.sell();
    const paths = await Promise.all(
      ['a', 'b'].map(async (name) => {
        const requests = [offlineRequest(await createNodeKey(name), { nodeName: name })];
        const path = join(directory, `${name}.request`);
        await writeFile(path, JSON.stringify({ kind: 'latchkey-offline-request', version: 1, requests }));
        return path;
      }),
    );
    const bundle = join(directory, 'site.bundle');
    const command = ['license', 'check-out', license.id, ...paths, '--expires', '90d', '-o', bundle];
    expect(await adminCommand(server, ...command)).toMatch(
      /holds 2 offline bundles:[^]*latchkey node import/u,
    );
    expect(parseOfflineBundleFile(await readFile(bundle), 'bundle').bundles).toHaveLength(2);
    expect(await adminCommand(server, ...command)).toMatch(/STATE_CONFLICT: .*exists already/u);
    // Nor was anything made that nobody has, in place of what is in the file.
    const made = await adminCommand(server, 'license', 'bundles', license.id);
    expect(made).toMatch(/ b +1 +1 +any +ISSUED/u);
    expect(made).not.toContain('SUPERSEDED');
    const foreign = await adminCommand(
      server,
      'license',
      'check-out',
      license.id,
      bundle,
      '-o',
      `${bundle}2`,
    );
    expect(foreign).toMatch(/INPUT_MALFORMED: .*is not an offline request/u);
    expect(await adminCommand(server, ...command.with(-3, '366d'))).toContain('give a span from 1h to 365d');
  } finally {
    await rm(directory, { recursive: true });
  }
});
