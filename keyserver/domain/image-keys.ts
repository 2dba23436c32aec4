/**
 * Image keys that are made here, for releases that take over layers of earlier ones. The release pipeline hands in
 * layer keys and gets them back wrapped; it never learns the image key, nor the layer keys of an earlier release.
 */
import { randomBytes } from 'node:crypto';
import { LatchkeyError } from '#src/base/errors.ts';
import { PENDING_IMAGE_KEY_AGE_MS } from '../limits.ts';
import { openEnvelope } from '#src/crypto/envelope.ts';
import { parsePrivateOptions } from '#src/crypto/layer-options.ts';
import {
  IMAGE_KEY_BYTES,
  type LatchkeyElement,
  type LatchkeyElementHeader,
  openElement,
  parseElement,
  sealElement,
} from '#src/keywrap/latchkey-element.ts';
import type {
  ElementsInput,
  MintedImageKey,
  MintedImageKeyInput,
  WrappedElements,
} from '#src/wire/admin/image-key.ts';
import { type Actor, type AuditEntry, appendAuditEvent } from '../audit/append-event.ts';
import type { Reader } from '../db/store.ts';
import { type Change, runChange } from './change.ts';
import { newId } from './ids.ts';
import type { KeyServer } from './key-server.ts';
import { requireProduct } from './products.ts';

/**
 * Makes an image key that opens nothing until a release is registered with it. Those for which none ever came go.
 * @throws LatchkeyError STATE_NOT_FOUND for the product
 */
export function mintImageKey(
  server: KeyServer,
  actor: Actor,
  input: MintedImageKeyInput,
): Promise<MintedImageKey> {
  return runChange(server, actor, async (change) => {
    const { writer, organizationId, nowMs } = change;
    const product = await requireProduct(writer, organizationId, input.productCode);
    const id = newId('ik', nowMs);
    await writer
      .deleteFrom('image_key')
      .where('organization_id', '=', organizationId)
      .where('state', '=', 'PENDING')
      .where('created_at_ms', '<', nowMs - PENDING_IMAGE_KEY_AGE_MS)
      .execute();
    await writer
      .insertInto('image_key')
      .values({
        id,
        organization_id: organizationId,
        revision: await change.nextRevision(),
        created_at_ms: nowMs,
        updated_at_ms: nowMs,
        product_id: product.id,
        wrapped_key: server.keys.wrapImageKey(id, randomBytes(IMAGE_KEY_BYTES)),
        state: 'PENDING',
      })
      .execute();
    await change.audit({ action: 'image-key.mint', target: id, detail: { productCode: product.code } });
    return { id, organizationId, contact: await contactOf(writer, organizationId, product.contact) };
  });
}

/**
 * Wraps layer keys under an image key that waits for its release: new ones, and those of registered images of the
 * same product. All or none; a refusal is audited and does not say which of its reasons it has.
 * @throws LatchkeyError STATE_NOT_FOUND for the image key, or for an element that is not one of a registered image of
 *   the product; INPUT_MALFORMED, KEY_INVALID for sealed options that do not open
 */
export async function wrapElements(
  server: KeyServer,
  actor: Actor,
  imageKeyId: string,
  input: ElementsInput,
): Promise<WrappedElements> {
  const sources = await Promise.all(
    input.items.map((item, position) => readItem(server, imageKeyId, item, position)),
  );
  const wrapped = await runChange(server, actor, async (change) => {
    const target = await requirePendingKey(change, imageKeyId);
    const taken = sources.filter((source) => source.kind === 'element');
    const detail = {
      productCode: target.product_code,
      layerKeys: sources.length,
      takenFrom: [...new Set(taken.map(({ element }) => element.header.imageKeyId))],
      imageDigests: [...new Set(taken.map(({ imageDigest }) => imageDigest))],
    };
    const opened = await openSources(server, change, target.product_id, sources);
    if (opened === undefined) {
      await auditRefusal(change, actor, imageKeyId, detail);
      return undefined;
    }
    const { organizationId } = change;
    const contact = await contactOf(change.writer, organizationId, target.contact);
    const owner = { imageKeyId, organizationId, contact: contact === '' ? undefined : contact };
    const imageKey = server.keys.unwrapImageKey(imageKeyId, target.wrapped_key);
    await change.audit({ action: 'image-key.wrap', target: imageKeyId, detail });
    return opened.map((source) => wrapSource(owner, imageKey, source));
  });
  if (wrapped !== undefined) return { elements: wrapped };
  throw new LatchkeyError(
    'STATE_NOT_FOUND',
    'a layer key to take over is not one of a registered image of this product',
    { hint: 'take layers only from a published release of the same product and the same key server' },
  );
}

/**
 * Lets an image key that was made here open its release.
 * @throws LatchkeyError STATE_NOT_FOUND when no such key of the product waits
 */
export async function activateImageKey(change: Change, productId: string, imageKeyId: string): Promise<void> {
  const { numUpdatedRows: updated } = await change.writer
    .updateTable('image_key')
    .set({ state: 'ACTIVE', revision: await change.nextRevision(), updated_at_ms: change.nowMs })
    .where('id', '=', imageKeyId)
    .where('organization_id', '=', change.organizationId)
    .where('product_id', '=', productId)
    .where('state', '=', 'PENDING')
    .executeTakeFirst();
  if (updated !== 1n) throw noPendingKey(imageKeyId);
}

function noPendingKey(imageKeyId: string): LatchkeyError {
  return new LatchkeyError('STATE_NOT_FOUND', `no image key ${imageKeyId} waits for a release`, {
    hint: 'run the same command again: it asks for a new image key',
  });
}

async function auditRefusal(
  { writer, organizationId, nowMs }: Change,
  actor: Actor,
  target: string,
  detail: NonNullable<AuditEntry['detail']>,
): Promise<void> {
  const refusal = { action: 'image-key.wrap', outcome: 'denied', code: 'STATE_NOT_FOUND' } as const;
  await appendAuditEvent(writer, organizationId, nowMs, { ...refusal, actor, target, detail });
}

/** A layer key that CI made, which is opened already, or one of an earlier image, for which the database is asked. */
type Source =
  | { readonly kind: 'options'; readonly privateOptions: Uint8Array }
  | { readonly kind: 'element'; readonly element: LatchkeyElement; readonly imageDigest: string };

async function readItem(
  server: KeyServer,
  imageKeyId: string,
  item: ElementsInput['items'][number],
  position: number,
): Promise<Source> {
  try {
    if ('element' in item) {
      const element = parseElement(Buffer.from(item.element, 'base64'));
      return { kind: 'element', element, imageDigest: item.imageDigest };
    }
    const privateOptions = await openEnvelope(
      item.sealedOptions,
      server.keys.importKey,
      'latchkey-layer-options-import',
      imageKeyId,
    );
    requireDigest(privateOptions);
    return { kind: 'options', privateOptions };
  } catch (error) {
    if (!(error instanceof LatchkeyError)) throw error;
    const code = error.code === 'CRYPTO_AUTHENTICATION_FAILED' ? 'KEY_INVALID' : error.code;
    throw new LatchkeyError(code, `layer key ${position} of the request: ${error.message}`, {
      hint: 'seal the private layer options, with the image key id as sub, to the importPublicKeyJwk of GET /v1/organization',
      cause: error,
    });
  }
}

interface OpenedSource {
  readonly kind: Source['kind'];
  readonly privateOptions: Uint8Array;
}

/** Opens all; undefined when one is not to be opened, for whatever reason. */
async function openSources(
  server: KeyServer,
  change: Change,
  productId: string,
  sources: readonly Source[],
): Promise<OpenedSource[] | undefined> {
  const opened: OpenedSource[] = [];
  for (const source of sources) {
    const privateOptions =
      source.kind === 'options'
        ? source.privateOptions
        : await openForProduct(server, change, productId, source);
    if (privateOptions === undefined) return undefined;
    opened.push({ kind: source.kind, privateOptions });
  }
  return opened;
}

/**
 * Opens an element of an image of the product. The image must be registered with the element's image key: who once
 * ran an image may know its image key and could forge elements, but not in a manifest that we have registered.
 */
async function openForProduct(
  server: KeyServer,
  { writer, organizationId }: Change,
  productId: string,
  { element, imageDigest }: Extract<Source, { kind: 'element' }>,
): Promise<Uint8Array | undefined> {
  const { header } = element;
  const row = await writer
    .selectFrom('image_key')
    .innerJoin('release', 'release.image_key_id', 'image_key.id')
    .innerJoin('release_image', 'release_image.release_id', 'release.id')
    .select('image_key.wrapped_key')
    .where('image_key.id', '=', header.imageKeyId)
    .where('image_key.organization_id', '=', organizationId)
    .where('image_key.product_id', '=', productId)
    .where('image_key.state', '=', 'ACTIVE')
    .where('release.state', '=', 'PUBLISHED')
    .where('release_image.organization_id', '=', organizationId)
    .where('release_image.image_digest', '=', imageDigest)
    .executeTakeFirst();
  if (row === undefined || header.organizationId !== organizationId) return undefined;
  try {
    const imageKey = server.keys.unwrapImageKey(header.imageKeyId, row.wrapped_key);
    const privateOptions = openElement(element, imageKey);
    return requireDigest(privateOptions) === header.plainDigest ? privateOptions : undefined;
  } catch (error) {
    if (error instanceof LatchkeyError) return undefined;
    throw error;
  }
}

function wrapSource(
  owner: Omit<LatchkeyElementHeader, 'plainDigest'>,
  imageKey: Uint8Array,
  { kind, privateOptions }: OpenedSource,
): WrappedElements['elements'][number] {
  const plainDigest = requireDigest(privateOptions);
  const element = sealElement({ ...owner, plainDigest }, imageKey, privateOptions);
  return {
    element: Buffer.from(element).toString('base64'),
    sourceDiffId: kind === 'options' ? null : (parsePrivateOptions(privateOptions).sourceDiffId ?? null),
  };
}

function requireDigest(privateOptions: Uint8Array) {
  const { plainDigest } = parsePrivateOptions(privateOptions);
  if (plainDigest !== undefined) return plainDigest;
  throw new LatchkeyError('INPUT_MALFORMED', 'the private layer options lack the digest of the layer');
}

async function requirePendingKey(change: Change, imageKeyId: string) {
  const row = await change.writer
    .selectFrom('image_key')
    .innerJoin('product', 'product.id', 'image_key.product_id')
    .select([
      'image_key.wrapped_key',
      'image_key.product_id',
      'product.code as product_code',
      'product.contact',
    ])
    .where('image_key.id', '=', imageKeyId)
    .where('image_key.organization_id', '=', change.organizationId)
    .where('image_key.state', '=', 'PENDING')
    .executeTakeFirst();
  if (row === undefined) throw noPendingKey(imageKeyId);
  return row;
}

async function contactOf(reader: Reader, organizationId: string, contact: string | null): Promise<string> {
  if (contact !== null) return contact;
  const organization = await reader
    .selectFrom('organization')
    .select('contact')
    .where('id', '=', organizationId)
    .executeTakeFirstOrThrow();
  return organization.contact;
}
