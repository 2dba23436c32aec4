/** The statement of a release: it must fit what is registered, then this server vouches for it with its own signature. */
import { LatchkeyError } from '#src/base/errors.ts';
import { type ReleaseStatement, readStatement, signStatement } from '#src/image/statement.ts';
import type { ReleaseInput, SignedRelease } from '#src/wire/admin/release.ts';
import type { Change } from './change.ts';
import type { KeyServer } from './key-server.ts';

/**
 * Checks and signs the statement of a registration; signatures it has already stay.
 * @returns the envelope to store; undefined when the registration has none
 * @throws LatchkeyError INPUT_STATEMENT_MISMATCH, INPUT_MALFORMED, LIMIT_EXCEEDED
 */
export function signReleaseStatement(server: KeyServer, input: ReleaseInput): string | undefined {
  if (input.statement === undefined) return undefined;
  const envelope = Buffer.from(input.statement);
  requireFit(readStatement(envelope), server.organizationId, input);
  return Buffer.from(signStatement(envelope, server.keys.releaseKey)).toString();
}

/**
 * Gives a release that is registered again its statement when it had none.
 * @returns true when it has got one now
 * @throws LatchkeyError STATE_CONFLICT for a statement that says something else than the stored one
 */
export async function keepReleaseStatement(
  change: Change,
  { id, imageKeyId, statement: stored }: SignedRelease,
  offered: string | undefined,
): Promise<boolean> {
  if (offered === undefined) return false;
  if (stored === null) {
    const changed = {
      statement: offered,
      revision: await change.nextRevision(),
      updated_at_ms: change.nowMs,
    };
    await change.writer.updateTable('release').set(changed).where('id', '=', id).execute();
    await change.audit({ action: 'release.statement', target: id, detail: { imageKeyId } });
    return true;
  }
  if (payloadOf(stored) === payloadOf(offered)) return false;
  throw new LatchkeyError('STATE_CONFLICT', `image key ${imageKeyId} is registered with another statement`, {
    hint: 'every release has an image key of its own; encrypt again',
  });
}

function payloadOf(envelope: string): string {
  return JSON.stringify(readStatement(Buffer.from(envelope)));
}

function requireFit(statement: ReleaseStatement, organizationId: string, input: ReleaseInput): void {
  const opens = statement.images.some(({ layers }) =>
    layers.some(({ imageKeyIds }) => imageKeyIds.includes(input.imageKeyId)),
  );
  const differences: readonly (readonly [boolean, string])[] = [
    [statement.organizationId === organizationId, 'it is for another organization'],
    [statement.productCode === input.productCode, 'it is for another product'],
    [statement.imageKeyId === input.imageKeyId, 'it names another image key'],
    [sameDigests(statement.manifests, input.imageDigests), 'it is about other images'],
    [opens, 'no layer in it is encrypted under the image key'],
  ];
  const difference = differences.find(([fits]) => !fits)?.[1];
  if (difference === undefined) return;
  throw new LatchkeyError(
    'INPUT_STATEMENT_MISMATCH',
    `the statement does not fit the release that is registered: ${difference}`,
    { hint: 'register what was encrypted, with the statement made at that time' },
  );
}

function sameDigests(left: readonly string[], right: readonly string[]): boolean {
  const rightSet = new Set(right);
  return new Set(left).size === rightSet.size && left.every((digest) => rightSet.has(digest));
}
