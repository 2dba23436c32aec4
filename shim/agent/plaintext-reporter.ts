/**
 * Tells the key server what has become of refused licenses, again and again until it has answered. What is told is always
 * the present state, so nothing has to be kept for after a restart: it is found again, and told again.
 */
import type { Clock } from '#src/base/clock.ts';
import { type LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import type { ReportPlaintextRequest } from '#src/wire/generated/latchkey/node.ts';
import type { KeyServer } from './key-server.ts';

const RETRY_AFTER_MS = 5000;

export type PlaintextReport = Omit<ReportPlaintextRequest, 'nodeTimeMs'>;

export interface PlaintextReporterEvents {
  readonly onReported: (report: PlaintextReport) => void;
  /** The key server has answered with something else than yes; it is not told the same again. */
  readonly onRefused: (report: PlaintextReport, error: LatchkeyError) => void;
}

export class PlaintextReporter {
  readonly #clock: Clock;
  readonly #events: PlaintextReporterEvents;
  /** License id -> what is to be told, and what was answered last. */
  readonly #wanted = new Map<string, PlaintextReport>();
  readonly #answered = new Map<string, string>();
  #keyServer: KeyServer | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isSending = false;

  constructor(clock: Clock, events: PlaintextReporterEvents) {
    this.#clock = clock;
    this.#events = events;
  }

  start(keyServer: KeyServer): void {
    this.#keyServer = keyServer;
    this.#answered.clear();
    void this.#send();
  }

  stop(): void {
    this.#keyServer = undefined;
    clearTimeout(this.#timer);
  }

  /** The present state of the refused licenses; of others nothing is told any more. */
  note(reports: readonly PlaintextReport[]): void {
    this.#wanted.clear();
    for (const report of reports) this.#wanted.set(report.licenseId, report);
    for (const licenseId of this.#answered.keys()) {
      if (!this.#wanted.has(licenseId)) this.#answered.delete(licenseId);
    }
    void this.#send();
  }

  async #send(): Promise<void> {
    if (this.#isSending) return;
    this.#isSending = true;
    clearTimeout(this.#timer);
    try {
      for (let next = this.#nextReport(); next !== undefined; next = this.#nextReport()) {
        await this.#sendOne(next.keyServer, next.report);
      }
    } catch {
      // Away: the same again in a while.
      this.#timer = setTimeout(() => void this.#send(), RETRY_AFTER_MS);
    } finally {
      this.#isSending = false;
    }
  }

  #nextReport(): { keyServer: KeyServer; report: PlaintextReport } | undefined {
    const keyServer = this.#keyServer;
    if (keyServer === undefined) return undefined;
    const report = [...this.#wanted.values()].find(
      (wanted) => this.#answered.get(wanted.licenseId) !== JSON.stringify(wanted),
    );
    return report === undefined ? undefined : { keyServer, report };
  }

  async #sendOne(keyServer: KeyServer, report: PlaintextReport): Promise<void> {
    try {
      await keyServer.reportPlaintext({ ...report, nodeTimeMs: this.#clock.nowMs() });
      this.#events.onReported(report);
    } catch (error) {
      const known = toLatchkeyError(error);
      if (known.code.startsWith('NET_') || known.code === 'INTERRUPTED') throw known;
      this.#events.onRefused(report, known);
    }
    this.#answered.set(report.licenseId, JSON.stringify(report));
  }
}
