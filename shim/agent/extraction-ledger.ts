/**
 * Who may have a layer key: only a layer that our snapshotter is unpacking or restoring right now, and only
 * once per unpacking. Another snapshotter, or a client that calls Diff.Apply by itself, has no entry here.
 */
import type { LatchkeyError } from '#src/base/errors.ts';
import type { ExtractionOutcome, LayerIdentity } from '../snapshotter/gate.ts';
import type { SnapshotGateRecord } from '../snapshotter/snapshot.ts';

export interface OpenExtraction {
  readonly token: string;
  readonly identity: LayerIdentity;
}

interface Entry extends OpenExtraction {
  state: 'open' | 'claimed' | 'verified';
  gate: SnapshotGateRecord | undefined;
  reason: LatchkeyError | undefined;
}

export class ExtractionLedger {
  readonly #entries = new Map<string, Entry>();

  open(token: string, identity: LayerIdentity): void {
    this.#entries.set(token, { token, identity, state: 'open', gate: undefined, reason: undefined });
  }

  /** The extractions that still have their one key to ask for. */
  unclaimed(): OpenExtraction[] {
    return [...this.#entries.values()].filter(({ state }) => state === 'open');
  }

  /** Takes the one grant of an extraction; false when it is gone or somebody was faster. */
  claim(token: string): boolean {
    const entry = this.#entries.get(token);
    if (entry?.state !== 'open') return false;
    entry.state = 'claimed';
    return true;
  }

  /** The content went through whole and authentic, opened as a layer of that image. */
  markVerified(token: string, gate: SnapshotGateRecord): void {
    const entry = this.#entries.get(token);
    if (entry?.state !== 'claimed') return;
    entry.state = 'verified';
    entry.gate = gate;
  }

  /** The key was refused, or the content is not what it should be. */
  markFailed(token: string, reason: LatchkeyError): void {
    const entry = this.#entries.get(token);
    if (entry !== undefined) entry.reason = reason;
  }

  close(token: string): ExtractionOutcome {
    const entry = this.#entries.get(token);
    this.#entries.delete(token);
    if (entry === undefined) return { state: 'unknown' };
    if (entry.gate !== undefined) return { state: 'verified', gate: entry.gate };
    const { reason } = entry;
    return entry.state === 'open' && reason === undefined
      ? { state: 'no-key' }
      : { state: 'unverified', reason };
  }
}
