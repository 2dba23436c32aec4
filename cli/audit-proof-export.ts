/** Makes an export with proofs from the log of a key server. */
import { LatchkeyError } from '#src/base/errors.ts';
import { openCheckpoint, auditTreeEntry } from '#src/crypto/audit-checkpoint.ts';
import type { AuditEvent } from '#src/crypto/audit-chain.ts';
import { parseVerifierKey } from '#src/crypto/signed-note.ts';
import { leafHash } from '#src/crypto/tile-tree.ts';
import { ProvingTree } from '#src/crypto/tree-proof.ts';
import type { AdminClient } from './admin-client.ts';
import { againstCheckpoints, readCheckpoints } from './audit-checkpoints.ts';
import { verifyAuditLog } from './audit-log.ts';
import { type ProofHeader, type ProvenEvent, checkProvenEvent } from './audit-proofs.ts';

/**
 * Gives the lines of an export. The whole log is read and verified first, for the proofs are over all of it.
 * @param since a checkpoint that was kept, or a directory of them; the export proves that it goes on from these
 * @throws LatchkeyError STATE_DAMAGED for a log that does not verify; STATE_NOT_FOUND, INPUT_MALFORMED for the checkpoints;
 *   STATE_NOT_FOUND when there is no such event
 */
export async function* provenExport(
  client: AdminClient,
  filter: ProofHeader['filter'],
  since: string | undefined,
): AsyncGenerator<ProofHeader | ProvenEvent> {
  const { verifierKey, checkpoint: note } = await client.auditCheckpoint();
  const verifier = parseVerifierKey(verifierKey);
  const checkpoint = {
    ...openCheckpoint(note, verifier, 'the checkpoint of the key server'),
    source: 'the newest checkpoint of the key server',
  };
  const earlier = since === undefined ? [] : await readCheckpoints(since, verifier);
  const tree = new ProvingTree();
  await verifyAuditLog(growing(tree, againstCheckpoints(client.auditEvents(), [...earlier, checkpoint])));
  const { size } = checkpoint;
  const sizes = new Set(earlier.map((each) => each.size).filter((each) => each > 0 && each < size));
  yield {
    format: 'latchkey-audit-proofs/1',
    checkpoint: note,
    filter,
    consistency: [...sizes].map((each) => ({ size: each, proof: toText(tree.consistency(each, size)) })),
  };
  let isEmpty = true;
  for await (const event of chosen(client, filter)) {
    // Written since.
    if (event.sequence > size) continue;
    isEmpty = false;
    const proven = { ...event, proof: toText(tree.inclusion(event.sequence - 1, size)) };
    checkProvenEvent(proven, checkpoint);
    yield proven;
  }
  if (!isEmpty) return;
  const asked = Object.entries(filter).map(([name, value]) => `${name} ${JSON.stringify(value)}`);
  throw new LatchkeyError('STATE_NOT_FOUND', `the log has no event of ${asked.join(' and ')}`, {
    hint: 'see `latchkey audit list`; that there is none cannot be proven',
  });
}

async function* growing(tree: ProvingTree, events: AsyncIterable<AuditEvent>): AsyncGenerator<AuditEvent> {
  for await (const event of events) {
    yield event;
    tree.add(leafHash(auditTreeEntry(event)));
  }
}

async function* chosen(client: AdminClient, filter: ProofHeader['filter']): AsyncGenerator<AuditEvent> {
  if (Object.keys(filter).length === 0) yield* client.auditEvents();
  else yield* await client.listAuditEvents({ ...filter, order: 'asc' });
}

function toText(hashes: readonly Uint8Array[]): string[] {
  return hashes.map((hash) => Buffer.from(hash).toString('base64'));
}
