/** The frame of every administrative change: one transaction with its revision and its audit event. */
import { type Actor, type AppendedEvent, type AuditEntry, appendAuditEvent } from '../audit/append-event.ts';
import { type ConcealedText, WITHHELD, concealText } from '../audit/concealed-text.ts';
import type { Urgency, Writer } from '../db/store.ts';
import type { KeyServer } from './key-server.ts';
import { nextRevision } from './revision.ts';

export interface Change {
  readonly writer: Writer;
  readonly organizationId: string;
  readonly nowMs: number;
  /** Counts the change; call it once something will be written. */
  nextRevision(): Promise<number>;
  /** What tells of people, as it may stand in the audit log; null stays null. A sealed key server leaves it out. */
  conceal(text: string | null): Promise<ConcealedText | null>;
  /** Writes the audit event of the change. */
  audit(entry: Omit<AuditEntry, 'actor' | 'outcome'>): Promise<AppendedEvent>;
}

/** Runs a change on behalf of an actor; resolves after the commit. */
export function runChange<Result>(
  server: KeyServer,
  actor: Actor,
  work: (change: Change) => Promise<Result>,
  urgency?: Urgency,
): Promise<Result> {
  const { organizationId } = server;
  return server.store.write((writer) => {
    const nowMs = server.clock.nowMs();
    return work({
      writer,
      organizationId,
      nowMs,
      nextRevision: () => nextRevision(writer, organizationId, nowMs),
      conceal: async (text) =>
        text === null
          ? null
          : server.seal.isSealed
            ? WITHHELD
            : concealText(writer, organizationId, server.keys, text),
      audit: (entry) => appendAuditEvent(writer, organizationId, nowMs, { ...entry, actor, outcome: 'done' }),
    });
  }, urgency);
}
