/** Makes an export with proofs from the log of a key server. */
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
 * @throws LatchkeyError STATE_DAMAGED for a log that does not verify; STATE_NOT_FOUND, INPUT_MALFORMED for the checkpoints
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
  for await (const event of chosen(client, filter)) {
    // Written since.
    if (event.sequence > size) continue;
    const proven = { ...event, proof: toText(tree.inclusion(event.sequence - 1, size)) };
    checkProvenEvent(proven, checkpoint);
    yield proven;
  }
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
