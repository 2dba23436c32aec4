/** What the key server does not wrap under an image key of its own. */
import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sealEnvelope } from '#src/crypto/envelope.ts';
import type { AdminClient } from '../../cli/admin-client.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { changeServerDatabase, openServerStore } from '../../lab/server-database.ts';
import { type ElementItem, newOptions, oldLayer, sealOptions } from '../fakes/old-layer.ts';
import {
  type SoldProduct,
  adminClient,
  auditLog,
  createSoldProduct,
  randomDigest,
  registerImage,
  sealImageKey,
} from '../fakes/sold-product.ts';

const REFUSED = 'not one of a registered image of this product';

let server: TestKeyServer;
let foreignServer: TestKeyServer;
let sold: SoldProduct;
let other: SoldProduct;
let foreign: SoldProduct;
/** What CI has: a token that can register releases. */
let pipeline: AdminClient;
let pipelineToken: string;

beforeAll(async () => {
  [server, foreignServer] = await Promise.all([startKeyServer(), startKeyServer()]);
  sold = await createSoldProduct(server);
  other = await createSoldProduct(server);
  foreign = await createSoldProduct(foreignServer);
  ({ token: pipelineToken } = await sold.client.createToken({ name: 'ci', permissionSet: 'release' }));
  pipeline = adminClient(server, pipelineToken);
});

afterAll(() => Promise.all([server.dispose(), foreignServer.dispose()]));

async function wrap(items: ElementItem[]) {
  const { id } = await pipeline.mintImageKey(sold.productCode);
  return (await pipeline.wrapElements(id, { items })).elements;
}

describe('a layer key is not taken over', () => {
  const refused = { code: 'STATE_NOT_FOUND', message: expect.stringContaining(REFUSED) as string };

  it.each<[string, () => Promise<ElementItem>]>([
    [
      'from another product',
      async () => ({
        element: (await oldLayer(pipeline, other.image)).element,
        imageDigest: other.image.imageDigest,
      }),
    ],
    [
      'from another organization',
      async () => ({
        element: (await oldLayer(foreign.client, foreign.image)).element,
        imageDigest: foreign.image.imageDigest,
      }),
    ],
    [
      'from an image key that nobody knows',
      async () => ({
        element: (await oldLayer(pipeline, { imageKeyId: 'ik-unknown', imageKey: randomBytes(32) })).element,
        imageDigest: sold.image.imageDigest,
      }),
    ],
    [
      'from an image that was not registered with its image key',
      async () => ({
        element: (await oldLayer(pipeline, sold.image)).element,
        imageDigest: (await registerImage(sold.client, sold.productCode)).imageDigest,
      }),
    ],
    [
      'when a bit of it was changed',
      async () => {
        const { element } = await oldLayer(pipeline, sold.image);
        const fields = JSON.parse(Buffer.from(element, 'base64').toString()) as { ct: string };
        const ciphertext = Buffer.from(fields.ct, 'base64');
        ciphertext[5]! ^= 1;
        const changed = JSON.stringify({ ...fields, ct: ciphertext.toString('base64') });
        return {
          element: Buffer.from(changed).toString('base64'),
          imageDigest: sold.image.imageDigest,
        };
      },
    ],
    [
      'from an image key that waits for its own release',
      async () => {
        const { id } = await pipeline.mintImageKey(sold.productCode);
        const options = newOptions();
        const items = [{ sealedOptions: await sealOptions(pipeline, id, options) }];
        const [made] = (await pipeline.wrapElements(id, { items })).elements;
        return { element: made!.element, imageDigest: sold.image.imageDigest };
      },
    ],
  ])('%s, and every such refusal reads the same', async (_name, item) => {
    const last = (await auditLog(sold.client)).at(-1)!.sequence;
    await expect(wrap([await item()])).rejects.toMatchObject(refused);
    expect((await auditLog(sold.client, last)).at(-1)).toMatchObject({
      action: 'image-key.wrap',
      outcome: 'denied',
      code: 'STATE_NOT_FOUND',
    });
  });

  it('alone: one that is refused takes the others with it', async () => {
    const good = { element: (await oldLayer(pipeline, sold.image)).element };
    const bad = { element: (await oldLayer(pipeline, other.image)).element };
    await expect(
      wrap([
        { ...good, imageDigest: sold.image.imageDigest },
        { ...bad, imageDigest: other.image.imageDigest },
      ]),
    ).rejects.toMatchObject(refused);
  });
});

it('an image key that was sealed for one release is not taken for another, whoever has found it', async () => {
  const sealedImageKey = await sealImageKey(pipeline, 'ik-victim', randomBytes(32));
  const found = { productCode: other.productCode, repository: 'r', version: 'v', sealedImageKey };
  await expect(
    pipeline.registerRelease({ ...found, imageKeyId: 'ik-thief', imageDigests: [randomDigest()] }),
  ).rejects.toMatchObject({ code: 'KEY_INVALID' });
});

it('does not bring a withdrawn release back', async () => {
  const own = await startKeyServer();
  const { client, image, productCode } = await createSoldProduct(own);
  const { element } = await oldLayer(client, image);
  const items = [{ element, imageDigest: image.imageDigest }];
  const before = await client.mintImageKey(productCode);
  expect((await client.wrapElements(before.id, { items })).elements).toHaveLength(1);
  const [release] = await client.releases();
  await client.yankRelease(release!.id);
  const { id } = await client.mintImageKey(productCode);
  await expect(client.wrapElements(id, { items })).rejects.toMatchObject({ code: 'STATE_NOT_FOUND' });
  await own.dispose();
});

it('forgets image keys for which no release ever came', async () => {
  const own = await startKeyServer();
  const { client, productCode } = await createSoldProduct(own);
  const forgotten = await client.mintImageKey(productCode);
  const waiting = await client.mintImageKey(productCode);
  await own.stop();
  await changeServerDatabase(
    own.dataDirectory,
    `update image_key set created_at_ms = 0 where id = '${forgotten.id}'`,
  );
  const again = await startKeyServer({ dataDirectory: own.dataDirectory });
  const fresh = await adminClient(again).mintImageKey(productCode);
  await again.stop();
  const store = await openServerStore(own.dataDirectory);
  const pending = await store.read
    .selectFrom('image_key')
    .select('id')
    .where('state', '=', 'PENDING')
    .execute();
  await store.close();
  expect(pending.map(({ id }) => id).sort()).toEqual([waiting.id, fresh.id].sort());
  await again.dispose();
});

describe('hostile requests', () => {
  it.each<[string, unknown, number]>([
    ['garbage', { element: Buffer.from('garbage').toString('base64'), imageDigest: randomDigest() }, 422],
    [
      'a JSON of another kind',
      { element: Buffer.from('[]').toString('base64'), imageDigest: randomDigest() },
      422,
    ],
    ['an element that is not base64', { element: '%%%', imageDigest: randomDigest() }, 400],
    ['an element without its image', { element: 'e30=' }, 400],
    ['both kinds at once', { element: 'e30=', imageDigest: randomDigest(), sealedOptions: 'x' }, 400],
    ['sealed options that are no JWE', { sealedOptions: 'a.b.c.d.e' }, 422],
    ['an element that is too long', { sealedOptions: 'x'.repeat(4000) }, 400],
  ])('%s are refused with one line', async (_name, item, status) => {
    const { id } = await pipeline.mintImageKey(sold.productCode);
    const response = await post(`image-keys/${id}/elements`, { items: [item] });
    expect(response.status).toBe(status);
    expect(await response.json()).toMatchObject({ type: 'about:blank', status });
  });

  it('refuses an envelope made for another purpose', async () => {
    const { importPublicKeyJwk } = await pipeline.organization();
    const { id } = await pipeline.mintImageKey(sold.productCode);
    const sealed = await sealEnvelope(newOptions(), importPublicKeyJwk, 'latchkey-image-key-import', id);
    const request = pipeline.wrapElements(id, { items: [{ sealedOptions: sealed }] });
    await expect(request).rejects.toMatchObject({ code: 'KEY_INVALID' });
  });

  it('refuses an envelope made for another image key', async () => {
    const sealedOptions = await sealOptions(pipeline, 'ik-another', newOptions());
    await expect(wrap([{ sealedOptions }])).rejects.toMatchObject({ code: 'KEY_INVALID' });
  });

  it.each([
    [0, 400],
    [65, 400],
    [1_000_000, 413],
  ])('a list of %i is refused', async (count, status) => {
    const { id } = await pipeline.mintImageKey(sold.productCode);
    const items = Array.from({ length: count }, () => ({ sealedOptions: 'x' }));
    // The server hangs up on a body that is far too large, before or after its answer arrives.
    const answered = await post(`image-keys/${id}/elements`, { items }).then(
      (response) => response.status,
      () => 413,
    );
    expect(answered).toBe(status);
    expect((await fetch(`${server.adminUrl}/healthz`)).status).toBe(200);
  });

  it('never fails in another way, whatever the element is', async () => {
    const { id } = await pipeline.mintImageKey(sold.productCode);
    const items = fc.array(
      fc.oneof(
        fc.record({
          element: fc.base64String({ minLength: 4, maxLength: 400 }),
          imageDigest: fc.constant(randomDigest()),
        }),
        fc.record({
          element: fc.json().map((text) => Buffer.from(text).toString('base64')),
          imageDigest: fc.string(),
        }),
        fc.record({ sealedOptions: fc.string({ maxLength: 200 }) }),
      ),
      { minLength: 1, maxLength: 3 },
    );
    await fc.assert(
      fc.asyncProperty(items, async (hostile) => {
        const response = await post(`image-keys/${id}/elements`, { items: hostile });
        expect([400, 404, 422]).toContain(response.status);
      }),
      { numRuns: 50 },
    );
  });
});

function headers() {
  return { authorization: `Bearer ${pipelineToken}`, 'content-type': 'application/json' };
}

function post(path: string, body: unknown): Promise<Response> {
  const url = `${server.adminUrl}/v1/${path}`;
  return fetch(url, { method: 'POST', headers: headers(), body: JSON.stringify(body) });
}
