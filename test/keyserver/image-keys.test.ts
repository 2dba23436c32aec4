/** Image keys that the key server makes: what a release pipeline can do with them, and what they do not tell it. */
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sealEnvelope } from '#src/crypto/envelope.ts';
import { parsePrivateOptions } from '#src/crypto/layer-options.ts';
import { openElement, parseElement } from '#src/keywrap/latchkey-element.ts';
import type { AdminClient } from '../../cli/admin-client.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { activateNode } from '../fakes/licensed-node.ts';
import { newOptions, oldLayer, sealOptions } from '../fakes/old-layer.ts';
import { statementTextFor } from '../fakes/release-statement.ts';
import {
  type SoldProduct,
  adminClient,
  auditLog,
  createSoldProduct,
  randomDigest,
} from '../fakes/sold-product.ts';

let server: TestKeyServer;
let sold: SoldProduct;
let other: SoldProduct;
/** What CI has: a token that can register releases. */
let pipeline: AdminClient;
let pipelineToken: string;

beforeAll(async () => {
  server = await startKeyServer();
  sold = await createSoldProduct(server);
  other = await createSoldProduct(server);
  ({ token: pipelineToken } = await sold.client.createToken({ name: 'ci', permissionSet: 'release' }));
  pipeline = adminClient(server, pipelineToken);
});

afterAll(() => server.dispose());

describe('an image key made by the key server', () => {
  it('wraps new and old layer keys and opens the release it is registered with', async () => {
    const old = await oldLayer(pipeline, sold.image);
    const fresh = newOptions();
    const minted = await pipeline.mintImageKey(sold.productCode);
    expect(minted.contact).toBe('help@acme.example');
    const { elements } = await pipeline.wrapElements(minted.id, {
      items: [
        { sealedOptions: await sealOptions(pipeline, minted.id, fresh) },
        { element: old.element, imageDigest: sold.image.imageDigest },
      ],
    });
    expect(elements.map(({ sourceDiffId }) => sourceDiffId)).toEqual([null, old.sourceDiffId]);
    const imageDigest = randomDigest();
    const statementTerms = {
      productCode: sold.productCode,
      organizationId: minted.organizationId,
      imageKeyId: minted.id,
    };
    const { license, licenseKey } = await sold.sell();
    const node = await activateNode(server, licenseKey);
    await expect(node.acquire({ imageDigest, imageKeyId: minted.id })).rejects.toMatchObject({
      code: 'DENIED_IMAGE_UNKNOWN',
    });
    const release = {
      productCode: sold.productCode,
      repository: 'registry.example/acme/web',
      version: '2.0.0',
      imageDigests: [imageDigest],
      imageKeyId: minted.id,
      statement: statementTextFor(imageDigest, statementTerms),
    };
    const registered = await pipeline.registerRelease(release);
    expect(await pipeline.registerRelease(release)).toEqual(registered);
    const imageKey = await node.openImageKey(await node.acquire({ imageDigest, imageKeyId: minted.id }));
    const opened = elements.map(({ element }) =>
      openElement(parseElement(Buffer.from(element, 'base64')), imageKey),
    );
    expect(opened.map((bytes) => Buffer.from(bytes).toString())).toEqual(
      [fresh, old.privateOptions].map((bytes) => Buffer.from(bytes).toString()),
    );
    await sold.client.changeLicense(license.id, 'revoke');
    for (const digest of [imageDigest, sold.image.imageDigest]) {
      const imageKeyId = digest === imageDigest ? minted.id : sold.image.imageKeyId;
      await expect(node.acquire({ imageDigest: digest, imageKeyId })).rejects.toMatchObject({
        code: 'DENIED_LICENSE_REVOKED',
      });
    }
    node.close();
  });

  it('is not another release pipeline’s to replace, nor usable for another product', async () => {
    const { id } = await pipeline.mintImageKey(sold.productCode);
    const input = { repository: 'r', version: 'v', imageDigests: [randomDigest()], imageKeyId: id };
    await expect(
      pipeline.registerRelease({ ...input, productCode: other.productCode }),
    ).rejects.toMatchObject({ code: 'STATE_NOT_FOUND' });
    const { importPublicKeyJwk } = await pipeline.organization();
    const mine = await sealEnvelope(randomBytes(32), importPublicKeyJwk, 'latchkey-image-key-import', id);
    await expect(
      pipeline.registerRelease({ ...input, productCode: sold.productCode, sealedImageKey: mine }),
    ).rejects.toMatchObject({ code: 'STATE_CONFLICT' });
  });

  it('takes no more layer keys once its release is registered', async () => {
    const { id } = await pipeline.mintImageKey(sold.productCode);
    await pipeline.registerRelease({
      productCode: sold.productCode,
      repository: 'r',
      version: 'v',
      imageDigests: [randomDigest()],
      imageKeyId: id,
    });
    const { element } = await oldLayer(pipeline, sold.image);
    const items = [{ element, imageDigest: sold.image.imageDigest }];
    await expect(pipeline.wrapElements(id, { items })).rejects.toMatchObject({ code: 'STATE_NOT_FOUND' });
  });

  it('leaves a trace of every use', async () => {
    const events = await auditLog(sold.client);
    const minted = await pipeline.mintImageKey(sold.productCode);
    const { element } = await oldLayer(pipeline, sold.image);
    await pipeline.wrapElements(minted.id, { items: [{ element, imageDigest: sold.image.imageDigest }] });
    const news = (await auditLog(sold.client, events.at(-1)!.sequence)).map(
      ({ action, target, outcome, detail }) => ({ action, target, outcome, detail }),
    );
    expect(news).toEqual([
      {
        action: 'image-key.mint',
        target: minted.id,
        outcome: 'done',
        detail: { productCode: sold.productCode },
      },
      {
        action: 'image-key.wrap',
        target: minted.id,
        outcome: 'done',
        detail: {
          productCode: sold.productCode,
          layerKeys: 1,
          takenFrom: [sold.image.imageKeyId],
          imageDigests: [sold.image.imageDigest],
        },
      },
    ]);
  });
});

it('tells a release pipeline nothing with which an old layer key could be opened', async () => {
  const old = await Promise.all(Array.from({ length: 3 }, () => oldLayer(pipeline, sold.image)));
  const mine = newOptions();
  const recorded: string[] = [];
  const record = async (path: string, body: unknown) => {
    const text = await (await post(path, body)).text();
    recorded.push(text);
    return JSON.parse(text) as { id: string; elements: { element: string }[] };
  };
  const { id } = await record('image-keys', { productCode: sold.productCode });
  const wrapped = await record(`image-keys/${id}/elements`, {
    items: [
      ...old.map(({ element }) => ({ element, imageDigest: sold.image.imageDigest })),
      { sealedOptions: await sealOptions(pipeline, id, mine) },
    ],
  });
  await record('releases', {
    productCode: sold.productCode,
    repository: 'r',
    version: 'v',
    imageDigests: [randomDigest()],
    imageKeyId: id,
  });
  for (const path of ['licenses', 'leases', 'releases', 'audit-events', 'nodes', `image-keys/${id}`]) {
    const response = await fetch(`${server.adminUrl}/v1/${path}`, { headers: headers() });
    expect([403, 404]).toContain(response.status);
    recorded.push(await response.text());
  }
  // Every 32 bytes that CI made or could read anywhere in an answer, tried as a key for every element it has.
  const candidates = recorded
    .flatMap(stringsIn)
    .flatMap((text) => [Buffer.from(text, 'base64'), Buffer.from(text, 'hex')])
    .flatMap((bytes) => windowsOf(bytes, 32))
    .concat([Buffer.from(parsePrivateOptions(mine).symmetricKey)]);
  expect(candidates.length).toBeGreaterThan(1000);
  const elements = [...old, ...wrapped.elements].map(({ element }) =>
    parseElement(Buffer.from(element, 'base64')),
  );
  for (const element of elements) {
    for (const key of candidates) expect(() => openElement(element, key)).toThrow();
  }
  for (const { privateOptions } of old) {
    const { symmetricKey, nonce } = parsePrivateOptions(privateOptions);
    const bytes = Buffer.concat(candidates);
    expect(bytes.includes(Buffer.from(symmetricKey))).toBe(false);
    expect(bytes.includes(Buffer.from(nonce))).toBe(false);
  }
});

function headers() {
  return { authorization: `Bearer ${pipelineToken}`, 'content-type': 'application/json' };
}

function post(path: string, body: unknown): Promise<Response> {
  const url = `${server.adminUrl}/v1/${path}`;
  return fetch(url, { method: 'POST', headers: headers(), body: JSON.stringify(body) });
}

/** All text values of an answer, those inside base64 JSON too. */
function stringsIn(text: string): string[] {
  const found = [...text.matchAll(/"((?:[^"\\]|\\.)*)"/g)].map(([, value = '']) => value);
  const inner = found
    .map((value) => Buffer.from(value, 'base64').toString())
    .filter((value) => value.startsWith('{'));
  return [...found, ...inner.flatMap(stringsIn)];
}

function windowsOf(bytes: Buffer, length: number): Buffer[] {
  const count = Math.max(0, bytes.length - length + 1);
  return Array.from({ length: count }, (_value, start) => bytes.subarray(start, start + length));
}
