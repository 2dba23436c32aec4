/**
 * Who may have a layer key: only a layer that our snapshotter is unpacking or restoring right now, and only
 * once per unpacking. Another snapshotter, or a client that calls Diff.Apply by itself, has no entry here.
 */
import type { LatchkeyError } from '#src/base/errors.ts';
import type { Digest } from '#src/oci/digest.ts';
import type { ExtractionOutcome, LayerIdentity } from '../snapshotter/gate.ts';
import type { SnapshotGateRecord } from '../snapshotter/snapshot.ts';
import { subjectKey } from './lease.ts';

export interface OpenExtraction {
  readonly token: string;
  readonly identity: LayerIdentity;
}

interface Entry extends OpenExtraction {
  claimed: boolean;
  gate: SnapshotGateRecord | undefined;
  reason: LatchkeyError | undefined;
}

export class ExtractionLedger {
  readonly #entries = new Map<string, Entry>();

  open(token: string, identity: LayerIdentity): void {
    this.#entries.set(token, { token, identity, claimed: false, gate: undefined, reason: undefined });
  }

  /** The extractions that still have their one key to ask for. */
  unclaimed(): OpenExtraction[] {
    return [...this.#entries.values()].filter(({ claimed }) => !claimed);
  }

  /**
   * True while the same content is being unpacked by somebody who may not have this key. A processor does not say for
   * whom it works, so then nobody gets it: it could end up in the other's directory, on the disk.
   */
  isContested(diffId: Digest, gate: SnapshotGateRecord): boolean {
    return [...this.#entries.values()].some(
      ({ identity }) => identity.layer.diffId === diffId && !mayHave(identity, gate),
    );
  }

  /** Takes the one grant of an extraction; false when it is gone or somebody was faster. */
  claim(token: string): boolean {
    const entry = this.#entries.get(token);
    if (entry?.claimed !== false) return false;
    entry.claimed = true;
    return true;
  }

  /**
   * The content went through whole and authentic, opened as a layer of that image. It may have gone to any unpacking of
   * the same content, so all of them are secret from now on.
   */
  markVerified(token: string, gate: SnapshotGateRecord): void {
    const verified = this.#entries.get(token);
    if (verified?.claimed !== true) return;
    for (const entry of this.#entries.values()) {
      const same = entry.identity.layer.diffId === verified.identity.layer.diffId;
      if (same && mayHave(entry.identity, gate)) entry.gate = gate;
    }
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
    return !entry.claimed && reason === undefined ? { state: 'no-key' } : { state: 'unverified', reason };
  }
}

function mayHave(identity: LayerIdentity, gate: SnapshotGateRecord): boolean {
  return identity.encryptedIn.some((record) => subjectKey(record) === subjectKey(gate));
}
