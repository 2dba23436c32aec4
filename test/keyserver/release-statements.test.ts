import { createPublicKey, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type ReleaseStatement,
  openStatement,
  signStatement,
  statementEnvelope,
} from '#src/image/statement.ts';
import type { ReleaseInput } from '#src/wire/admin/release.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { activateNode } from '../fakes/licensed-node.ts';
import { undoMigrations } from '../fakes/old-database.ts';
import { randomImage, signingKeyPair, statementOf } from '../fakes/release-statement.ts';
import {
  type SoldProduct,
  adminClient,
  auditLog,
  createSoldProduct,
  randomDigest,
  sealImageKey,
} from '../fakes/sold-product.ts';

let server: TestKeyServer;
let sold: SoldProduct;
let organizationId: string;

beforeAll(async () => {
  server = await startKeyServer();
  sold = await createSoldProduct(server);
  ({ id: organizationId } = await sold.client.organization());
});
afterAll(() => server.dispose());

function textOf(statement: ReleaseStatement): string {
  return Buffer.from(statementEnvelope(statement)).toString();
}

/** A release of two platforms, and what is said about it. */
async function newRelease(): Promise<{ input: ReleaseInput; statement: ReleaseStatement }> {
  const imageKeyId = `ik-${randomBytes(8).toString('hex')}`;
  const { productCode } = sold;
  const images = [randomImage('amd64', imageKeyId), randomImage('arm64', imageKeyId)];
  const statement = statementOf(images, { productCode, organizationId, imageKeyId });
  const input = {
    productCode,
    repository: 'registry.example/acme/web',
    version: '3.0.0',
    imageDigests: [...statement.manifests],
    imageKeyId,
    sealedImageKey: await sealImageKey(sold.client, imageKeyId, Buffer.alloc(32, 7)),
    statement: textOf(statement),
  };
  return { input, statement };
}

async function releaseKey() {
  const { releaseVerificationJwk } = await sold.client.organization();
  return createPublicKey({ key: releaseVerificationJwk, format: 'jwk' });
}

describe('the statement of a release', () => {
  it('is signed at registration, kept, and shown; the vendor’s own signature stays', async () => {
    const vendor = signingKeyPair('ec');
    const { input, statement } = await newRelease();
    const signed = Buffer.from(signStatement(Buffer.from(input.statement!), vendor.privateKey)).toString();
    const registered = await sold.client.registerRelease({ ...input, statement: signed });
    for (const key of [await releaseKey(), vendor.publicKey]) {
      expect(openStatement(Buffer.from(registered.statement!), [key]).statement).toEqual(statement);
    }
    expect(await sold.client.release(registered.id)).toEqual(registered);
    const [listed] = (await sold.client.releases()).filter(({ id }) => id === registered.id);
    expect(listed).not.toHaveProperty('statement');
    await expect(sold.client.release('rel_none')).rejects.toMatchObject({ code: 'STATE_NOT_FOUND' });
  });

  it('is the stored one when it is registered again, and cannot be changed', async () => {
    const { input, statement } = await newRelease();
    const first = await sold.client.registerRelease(input);
    expect(await sold.client.registerRelease(input)).toEqual(first);
    const [amd64, arm64] = statement.images;
    const layers = [...amd64!.layers].reverse();
    const other = textOf({ ...statement, images: [{ ...amd64!, layers }, arm64!] });
    await expect(sold.client.registerRelease({ ...input, statement: other })).rejects.toMatchObject({
      code: 'STATE_CONFLICT',
    });
    expect(await sold.client.registerRelease({ ...input, statement: undefined })).toEqual(first);
  });

  it.each<[string, (statement: ReleaseStatement) => ReleaseStatement]>([
    ['another product', (s) => ({ ...s, productCode: 'other' })],
    ['another organization', (s) => ({ ...s, organizationId: 'org_other' })],
    ['another image key', (s) => ({ ...s, imageKeyId: 'ik-other' })],
    ['more images', (s) => ({ ...s, manifests: [...s.manifests, randomDigest()] })],
    [
      'layers of another key',
      (s) => ({
        ...s,
        images: [randomImage('amd64', 'ik-other')].map((image) => ({
          ...image,
          manifest: s.images[0]!.manifest,
        })),
      }),
    ],
    ['no image at all', (s) => ({ ...s, images: [] })],
  ])('is refused when it is about %s', async (_name, change) => {
    const { input, statement } = await newRelease();
    const refused = sold.client.registerRelease({ ...input, statement: textOf(change(statement)) });
    await expect(refused).rejects.toMatchObject({
      code: expect.stringMatching(/^INPUT_(?:STATEMENT_MISMATCH|MALFORMED)$/) as string,
    });
    expect((await sold.client.releases()).some(({ imageKeyId }) => imageKeyId === input.imageKeyId)).toBe(
      false,
    );
  });

  it.each(['', '{}', 'null', '{"payloadType":"text/plain","payload":"aGVsbG8=","signatures":[]}'])(
    'is refused when it is %j',
    async (statement) => {
      const { input } = await newRelease();
      await expect(sold.client.registerRelease({ ...input, statement })).rejects.toMatchObject({
        code: 'INPUT_MALFORMED',
      });
    },
  );

  it('comes with the lease, and the key to it with the activation', async () => {
    const { licenseKey } = await sold.sell();
    const node = await activateNode(server, licenseKey);
    const { imageDigest, imageKeyId } = sold.image;
    const answer = await node.acquire({ imageDigest, imageKeyId });
    const key = createPublicKey({
      key: JSON.parse(node.activation.releaseVerificationJwk) as Record<string, string>,
      format: 'jwk',
    });
    expect(openStatement(answer.statement, [key]).statement).toMatchObject({
      imageKeyId,
      manifests: [imageDigest],
    });
    node.close();
  });

  it('decides: without one there is no key, until the release is registered again', async () => {
    const { input } = await newRelease();
    const { statement, ...without } = input;
    const bare = await sold.client.registerRelease(without);
    expect(bare.statement).toBe(null);
    const { licenseKey } = await sold.sell();
    const node = await activateNode(server, licenseKey);
    const image = { imageDigest: input.imageDigests[0]!, imageKeyId: input.imageKeyId };
    await expect(node.acquire(image)).rejects.toMatchObject({ code: 'DENIED_STATEMENT_INVALID' });
    const registered = await sold.client.registerRelease({ ...input, statement });
    expect(registered).toMatchObject({ id: bare.id, statement: expect.any(String) as string });
    expect((await node.acquire(image)).statement.length).toBeGreaterThan(0);
    const events = (await auditLog(sold.client)).filter(({ action }) => action === 'release.statement');
    expect(events).toMatchObject([{ target: bare.id, detail: { imageKeyId: input.imageKeyId } }]);
    node.close();
  });
});

describe('a database of before there were statements', () => {
  it('gets a release key at the next start, once, and keeps everything else', async () => {
    const first = await startKeyServer();
    const old = await createSoldProduct(first);
    await first.stop();
    await undoMigrations(first.dataDirectory, '0001-initial');
    const second = await startKeyServer({ dataDirectory: first.dataDirectory });
    const client = adminClient(second);
    const { releaseVerificationJwk } = await client.organization();
    expect(releaseVerificationJwk).toMatchObject({ kty: 'OKP', crv: 'Ed25519' });
    const [release] = await client.releases();
    expect(release).toMatchObject({ imageKeyId: old.image.imageKeyId });
    expect((await client.release(release!.id)).statement).toBe(null);
    expect(
      (await auditLog(client)).filter(({ action }) => action === 'organization.release-key'),
    ).toHaveLength(1);
    await second.stop();

    const third = await startKeyServer({ dataDirectory: first.dataDirectory });
    expect((await adminClient(third).organization()).releaseVerificationJwk).toEqual(releaseVerificationJwk);
    expect(
      (await auditLog(adminClient(third))).filter(({ action }) => action === 'organization.release-key'),
    ).toHaveLength(1);
    await third.dispose();
  });
});
