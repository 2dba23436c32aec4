/**
 * The thread beside the one that decides: signs leases and seals image keys, which is half of the work of a start. All
 * that the starts of one commit need goes to it in one message: to wake a thread costs as much as a signature (measured).
 */
import type { KeyObject } from 'node:crypto';
import type { Worker, WorkerOptions } from 'node:worker_threads';
import { LatchkeyError } from '#src/base/errors.ts';
import { startWorker } from '#src/base/installation.ts';
import type { EnvelopePurpose } from '#src/crypto/envelope.ts';
import type { ReleaseJob, ReleaseResult } from './release-job.ts';

interface Asked {
  readonly job: ReleaseJob;
  readonly resolve: (text: string) => void;
  readonly reject: (error: unknown) => void;
}

/** A thread with what it was asked for. */
interface Running {
  readonly worker: Worker;
  /** In the order of the messages, which is that of the answers. */
  readonly messages: (readonly Asked[])[];
}

export class ReleaseThread {
  readonly #startWorker: (options: WorkerOptions) => Worker;
  #running: Running | null;
  #next: Asked[] = [];

  /** @param start starts a thread of `release-worker.ts`: one at once, and after one that has failed the next when it is needed */
  constructor(start: (options: WorkerOptions) => Worker = startReleaseWorker) {
    this.#startWorker = start;
    this.#running = this.#start();
  }

  /** A compact JWS over a JSON payload; see src/crypto/sign-token.ts. */
  sign(type: string, payload: unknown, privateKey: KeyObject): Promise<string> {
    return this.#ask({ kind: 'sign', type, payload: JSON.stringify(payload), privateKey });
  }

  /** JSON payloads that share a signature; see src/crypto/sign-token.ts. */
  signTogether(listType: string, payloads: readonly unknown[], privateKey: KeyObject): Promise<string> {
    const texts = payloads.map((payload) => JSON.stringify(payload));
    return this.#ask({ kind: 'sign-together', listType, payloads: texts, privateKey });
  }

  /**
   * An envelope with a key; see src/crypto/seal-key.ts. Rejects for what is no public key on P-256.
   * @param recipient JWK of its public key, as text
   */
  seal(recipient: string, key: Uint8Array, purpose: EnvelopePurpose): Promise<string> {
    return this.#ask({ kind: 'seal', recipient, key, purpose });
  }

  /** Ends the thread; what it has not answered is rejected. */
  async close(): Promise<void> {
    await this.#running?.worker.terminate();
  }

  #ask(job: ReleaseJob): Promise<string> {
    return new Promise((resolve, reject) => {
      // After everything that runs on from the same commit.
      if (this.#next.length === 0) {
        process.nextTick(() => {
          this.#post();
        });
      }
      this.#next.push({ job, resolve, reject });
    });
  }

  #post(): void {
    const message = this.#next;
    this.#next = [];
    this.#running ??= this.#start();
    this.#running.messages.push(message);
    this.#running.worker.postMessage(message.map(({ job }) => job));
  }

  #start(): Running {
    const worker = this.#startWorker({ stdout: true, stderr: true });
    const running: Running = { worker, messages: [] };
    worker.unref();
    worker.on('message', (results: readonly ReleaseResult[]) => {
      const message = running.messages.shift() ?? [];
      for (const [index, { resolve, reject }] of message.entries()) {
        const result = results[index];
        if (result?.ok === true) resolve(result.text);
        else reject(result?.error);
      }
    });
    const end = (cause?: unknown) => {
      if (this.#running === running) this.#running = null;
      const error = new LatchkeyError('BUG_UNEXPECTED', 'the release thread has ended', { cause });
      for (const { reject } of running.messages.splice(0).flat()) reject(error);
    };
    worker.once('error', end);
    worker.once('exit', () => {
      end();
    });
    return running;
  }
}

function startReleaseWorker(options: WorkerOptions): Worker {
  return startWorker('keyserver/custody/release-worker.ts', options);
}
