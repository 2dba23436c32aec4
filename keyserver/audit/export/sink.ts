/** What takes copies of audit events. */
import type { AuditEvent } from '#src/crypto/audit-chain.ts';

export interface AuditSink {
  /**
   * Delivers events in their order; resolves once the other side has them. It may get the same events again.
   * @throws whatever went wrong; nothing or a part of them may have arrived then
   */
  send(events: readonly AuditEvent[], signal: AbortSignal): Promise<void>;
}
