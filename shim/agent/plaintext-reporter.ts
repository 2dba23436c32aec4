/**
 * Tells the key server what has become of refused licenses, again and again until it has answered. What is told is always
 * the present state, so nothing has to be kept for after a restart: it is found again, and told again.
 */
import type { Clock } from '#src/base/clock.ts';
import type { LatchkeyError } from '#src/base/errors.ts';
import type { ReportPlaintextRequest } from '#src/wire/generated/latchkey/node.ts';
import type { KeyServer } from './key-server.ts';
import { PersistentSender, answeredRefusal } from './persistent-sender.ts';

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
  readonly #sender = new PersistentSender(() => this.#next());
  #keyServer: KeyServer | undefined;

  constructor(clock: Clock, events: PlaintextReporterEvents) {
    this.#clock = clock;
    this.#events = events;
  }

  start(keyServer: KeyServer): void {
    this.#keyServer = keyServer;
    this.#answered.clear();
    this.#sender.start();
  }

  stop(): void {
    this.#sender.stop();
  }

  /** The present state of the refused licenses; of others nothing is told any more. */
  note(reports: readonly PlaintextReport[]): void {
    this.#wanted.clear();
    for (const report of reports) this.#wanted.set(report.licenseId, report);
    for (const licenseId of this.#answered.keys()) {
      if (!this.#wanted.has(licenseId)) this.#answered.delete(licenseId);
    }
    this.#sender.trigger();
  }

  #next(): (() => Promise<void>) | undefined {
    const keyServer = this.#keyServer;
    const report = [...this.#wanted.values()].find(
      (wanted) => this.#answered.get(wanted.licenseId) !== JSON.stringify(wanted),
    );
    if (keyServer === undefined || report === undefined) return undefined;
    return async () => {
      try {
        await keyServer.reportPlaintext({ ...report, nodeTimeMs: this.#clock.nowMs() });
        this.#events.onReported(report);
      } catch (error) {
        this.#events.onRefused(report, answeredRefusal(error));
      }
      this.#answered.set(report.licenseId, JSON.stringify(report));
    };
  }
}
