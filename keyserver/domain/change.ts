/** The frame of every administrative change: one transaction with its revision and its audit event. */
import { type Actor, type AuditEntry, appendAuditEvent } from '../audit/append-event.ts';
import type { Writer } from '../db/store.ts';
import type { KeyServer } from './key-server.ts';
import { nextRevision } from './revision.ts';

export interface Change {
  readonly writer: Writer;
  readonly organizationId: string;
  readonly nowMs: number;
  /** Counts the change; call it once something will be written. */
  nextRevision(): Promise<number>;
  /** Writes the audit event of the change. */
  audit(entry: Omit<AuditEntry, 'actor' | 'outcome'>): Promise<void>;
}

/** Runs a change on behalf of an actor; resolves after the commit. */
export function runChange<Result>(
  server: KeyServer,
  actor: Actor,
  work: (change: Change) => Promise<Result>,
): Promise<Result> {
  const { organizationId } = server;
  return server.store.write((writer) => {
    const nowMs = server.clock.nowMs();
    return work({
      writer,
      organizationId,
      nowMs,
      nextRevision: () => nextRevision(writer, organizationId, nowMs),
      audit: async (entry) => {
        await appendAuditEvent(writer, organizationId, nowMs, { ...entry, actor, outcome: 'done' });
      },
    });
  });
}
