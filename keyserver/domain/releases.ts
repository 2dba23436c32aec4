/** Releases: which images belong to a product, and the image key that opens them. */
import { LatchkeyError } from '#src/base/errors.ts';
import type { Page } from '#src/wire/admin/page.ts';
import type { Release, ReleaseInput, ReleaseQuery, SignedRelease } from '#src/wire/admin/release.ts';
import type { Actor } from '../audit/append-event.ts';
import type { ImageKeyTable } from '../db/tables/catalog.ts';
import type { Reader } from '../db/store.ts';
import { type Access, isWithin } from './access.ts';
import { type Change, runChange } from './change.ts';
import { fromCodeColumn, toCodeColumn } from './code-list.ts';
import { newId } from './ids.ts';
import { activateImageKey } from './image-keys.ts';
import type { KeyServer } from './key-server.ts';
import { allOf, isEqual } from './list-filter.ts';
import { openPage } from './page.ts';
import { requireProduct } from './products.ts';
import { requiredEntitlements } from './required-entitlements.ts';
import { openSealedImageKey } from './sealed-image-key.ts';
import { keepReleaseStatement, signReleaseStatement } from './release-statement.ts';

/**
 * Registers a release. The same image key with the same content again gives the release that is there, with the
 * statement that was signed the first time.
 * @throws LatchkeyError STATE_NOT_FOUND (product), KEY_INVALID (sealed image key), STATE_CONFLICT,
 *   INPUT_STATEMENT_MISMATCH
 */
export async function registerRelease(
  server: KeyServer,
  actor: Actor,
  request: ReleaseInput,
): Promise<{ release: SignedRelease; created: boolean }> {
  const offered = signReleaseStatement(server, request);
  const imageKey =
    request.sealedImageKey === undefined
      ? undefined
      : await openSealedImageKey(server, request.imageKeyId, request.sealedImageKey);
  return runChange(server, actor, async (change) => {
    const { writer, organizationId } = change;
    const product = await requireProduct(writer, organizationId, request.productCode);
    const entitlementCodes = await requiredEntitlements(writer, organizationId, product.id, request);
    const input = { ...request, entitlementCodes };
    const known = await releaseOfKey(server, change.writer, input.imageKeyId);
    if (known !== undefined) {
      await refuseOtherContent(server, change.writer, known, input, imageKey);
      const isChanged = await keepReleaseStatement(change, known, offered);
      const release = isChanged ? await releaseOfKey(server, change.writer, input.imageKeyId) : known;
      return { release: release ?? known, created: false };
    }
    const id = await insertRelease(server, change, product.id, { ...input, statement: offered }, imageKey);
    await change.audit({
      action: 'release.register',
      target: id,
      detail: {
        productCode: product.code,
        repository: input.repository,
        version: input.version,
        imageKeyId: input.imageKeyId,
        imageDigests: input.imageDigests,
        entitlementCodes,
      },
    });
    const release = await releaseOfKey(server, change.writer, input.imageKeyId);
    if (release === undefined) throw new TypeError('the release was not written');
    return { release, created: true };
  });
}

export async function listReleases(
  server: KeyServer,
  query: ReleaseQuery,
  access: Access,
): Promise<Page<Release>> {
  const { organizationId, store } = server;
  const page = openPage(server.cursorKey, { name: 'releases', prefix: 'rel' }, query);
  const product =
    query.product === undefined
      ? undefined
      : await requireProduct(store.read, organizationId, query.product, access);
  const rows = await releaseRows(server, store.read)
    .where(page.isOn('release.id'))
    .where(
      allOf(
        isEqual('release.product_id', product?.id),
        isEqual('release.state', query.state),
        isEqual('release.repository', query.repository),
        isEqual('release.version', query.version),
      ),
    )
    .where(isWithin(access, { product: 'release.product_id' }))
    .orderBy('release.id', page.order)
    .limit(page.rows)
    .execute();
  const images = await imagesOf(store.read, rows);
  return page.cut(rows.map((row) => withImages(row, images)));
}

/** @throws LatchkeyError STATE_NOT_FOUND */
export async function getRelease(server: KeyServer, id: string): Promise<SignedRelease> {
  const row = await releaseRows(server, server.store.read).where('release.id', '=', id).executeTakeFirst();
  if (row !== undefined) return toRelease(server.store.read, row);
  throw new LatchkeyError('STATE_NOT_FOUND', `there is no release ${JSON.stringify(id)}`, {
    hint: '`latchkey release list --json` shows the ids',
  });
}

/**
 * Withdraws a release: no new lease is given for its images, and none is prolonged. A node that holds one starts them
 * until it ends. Repeating it is harmless.
 * @throws LatchkeyError STATE_NOT_FOUND
 */
export async function yankRelease(server: KeyServer, actor: Actor, id: string): Promise<Release> {
  const { imageKeyId, state } = await getRelease(server, id);
  if (state === 'PUBLISHED') {
    await runChange(
      server,
      actor,
      async (change) => {
        await change.writer
          .updateTable('release')
          .set({ state: 'YANKED', revision: await change.nextRevision(), updated_at_ms: change.nowMs })
          .where('id', '=', id)
          .execute();
        await change.audit({ action: 'release.yank', target: id, detail: { imageKeyId } });
      },
      'URGENT',
    );
  }
  return getRelease(server, id);
}

async function insertRelease(
  server: KeyServer,
  change: Change,
  productId: string,
  input: ReleaseInput,
  imageKey: Uint8Array | undefined,
): Promise<string> {
  const { writer, organizationId, nowMs } = change;
  const common = {
    organization_id: organizationId,
    revision: await change.nextRevision(),
    created_at_ms: nowMs,
    updated_at_ms: nowMs,
    product_id: productId,
  };
  const id = newId('rel', nowMs);
  if (imageKey === undefined) {
    await activateImageKey(change, productId, input.imageKeyId);
  } else {
    const wrapped = server.keys.wrapImageKey(input.imageKeyId, imageKey);
    await insertImageKey(change, {
      ...common,
      id: input.imageKeyId,
      wrapped_key: wrapped,
      state: 'ACTIVE',
      destroy_at_ms: null,
    });
  }
  await writer
    .insertInto('release')
    .values({
      ...common,
      id,
      repository: input.repository,
      version: input.version,
      image_key_id: input.imageKeyId,
      state: 'PUBLISHED',
      statement: input.statement ?? null,
      entitlement_codes: toCodeColumn(input.entitlementCodes ?? []),
    })
    .execute();
  for (const imageDigest of new Set(input.imageDigests)) {
    await insertImage(change, id, imageDigest);
  }
  return id;
}

async function insertImageKey(change: Change, row: ImageKeyTable): Promise<void> {
  const { numInsertedOrUpdatedRows: inserted } = await change.writer
    .insertInto('image_key')
    .values(row)
    .onConflict((conflict) => conflict.doNothing())
    .executeTakeFirst();
  if (inserted === 1n) return;
  throw new LatchkeyError('STATE_CONFLICT', `there is already an image key ${row.id}`, {
    hint: 'every release has an image key of its own; encrypt again',
  });
}

async function insertImage(change: Change, releaseId: string, imageDigest: string): Promise<void> {
  const { numInsertedOrUpdatedRows: inserted } = await change.writer
    .insertInto('release_image')
    .values({ organization_id: change.organizationId, image_digest: imageDigest, release_id: releaseId })
    .onConflict((conflict) => conflict.doNothing())
    .executeTakeFirst();
  if (inserted !== 1n) {
    throw new LatchkeyError('STATE_CONFLICT', `image ${imageDigest} already belongs to another release`, {
      hint: 'an image is encrypted with one image key; encrypt again to register it anew',
    });
  }
}

/** The image key must be the same as well: a second key under one id would make images unreadable. */
async function refuseOtherContent(
  server: KeyServer,
  reader: Reader,
  known: Release,
  input: ReleaseInput,
  imageKey: Uint8Array | undefined,
): Promise<void> {
  const { wrapped_key: wrapped, state } = await reader
    .selectFrom('image_key')
    .select(['wrapped_key', 'state'])
    .where('id', '=', input.imageKeyId)
    .executeTakeFirstOrThrow();
  if (state === 'DESTROYED') {
    throw new LatchkeyError('STATE_CONFLICT', `image key ${input.imageKeyId} is destroyed`, {
      hint: 'every release has an image key of its own; encrypt again',
    });
  }
  const stored = server.keys.unwrapImageKey(input.imageKeyId, wrapped);
  const same =
    (imageKey === undefined || Buffer.from(stored).equals(imageKey)) &&
    known.productCode === input.productCode &&
    known.repository === input.repository &&
    known.version === input.version &&
    toCodeColumn(known.entitlementCodes) === toCodeColumn(input.entitlementCodes ?? []) &&
    [...known.imageDigests].sort().join() === [...new Set(input.imageDigests)].sort().join();
  if (!same) {
    throw new LatchkeyError(
      'STATE_CONFLICT',
      `image key ${input.imageKeyId} is registered with other content`,
      {
        hint: 'every release has an image key of its own; encrypt again',
      },
    );
  }
}

function releaseRows(server: KeyServer, reader: Reader) {
  return reader
    .selectFrom('release')
    .innerJoin('product', 'product.id', 'release.product_id')
    .selectAll('release')
    .select('product.code as product_code')
    .where('release.organization_id', '=', server.organizationId);
}

type ReleaseRow = Awaited<ReturnType<ReturnType<typeof releaseRows>['executeTakeFirstOrThrow']>>;

async function releaseOfKey(
  server: KeyServer,
  reader: Reader,
  imageKeyId: string,
): Promise<SignedRelease | undefined> {
  const row = await releaseRows(server, reader)
    .where('release.image_key_id', '=', imageKeyId)
    .executeTakeFirst();
  return row === undefined ? undefined : toRelease(reader, row);
}

async function toRelease(reader: Reader, row: ReleaseRow): Promise<SignedRelease> {
  return withImages(row, await imagesOf(reader, [row]));
}

/** Image digests by the id of their release; one query for all. */
async function imagesOf(
  reader: Reader,
  releases: readonly ReleaseRow[],
): Promise<ReadonlyMap<string, readonly { image_digest: string }[]>> {
  if (releases.length === 0) return new Map();
  const ids = releases.map(({ id }) => id);
  const rows = await reader
    .selectFrom('release_image')
    .select(['release_id', 'image_digest'])
    .where('release_id', 'in', ids)
    .orderBy('image_digest')
    .execute();
  return Map.groupBy(rows, (row) => row.release_id);
}

function withImages(row: ReleaseRow, images: Awaited<ReturnType<typeof imagesOf>>): SignedRelease {
  return {
    id: row.id,
    revision: row.revision,
    createdAtMs: row.created_at_ms,
    updatedAtMs: row.updated_at_ms,
    productCode: row.product_code,
    repository: row.repository,
    version: row.version,
    imageKeyId: row.image_key_id,
    state: row.state,
    statement: row.statement,
    imageDigests: (images.get(row.id) ?? []).map((image) => image.image_digest),
    entitlementCodes: fromCodeColumn(row.entitlement_codes),
  };
}
