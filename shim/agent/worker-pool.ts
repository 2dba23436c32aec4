/**
 * Warm worker threads for layers. A layer keeps its worker while containerd is slow, so there are as many as
 * layers are unpacked at once, and a few stay ready.
 */
import type { Worker, WorkerOptions } from 'node:worker_threads';
import { LatchkeyError } from '#src/base/errors.ts';
import type { DecryptJob, DecryptResult } from './decrypt-job.ts';

/** Ready at start: containerd unpacks the layers of one image one after another. */
const WARM_WORKERS = 1;
/** More layers at once than this wait: each holds a thread and its buffers. */
const MAX_WORKERS = 32;

export class WorkerPool {
  readonly #startWorker: (options: WorkerOptions) => Worker;
  readonly #idle: Worker[] = [];
  readonly #waiting: ((worker: Worker) => void)[] = [];
  readonly #all = new Set<Worker>();

  /** @param startWorker starts a thread of `decrypt-worker.ts`; the warm ones at once */
  constructor(startWorker: (options: WorkerOptions) => Worker) {
    this.#startWorker = startWorker;
    for (let count = 0; count < WARM_WORKERS; count += 1) this.#idle.push(this.#start());
  }

  /**
   * Lends a worker for several jobs in a row.
   * @param use gets a function that runs one job
   */
  async lend<Result>(
    use: (run: (job: DecryptJob) => Promise<DecryptResult>) => Promise<Result>,
  ): Promise<Result> {
    const worker = await this.#take();
    try {
      return await use((job) => runJob(worker, job));
    } finally {
      this.#giveBack(worker);
    }
  }

  get size(): number {
    return this.#all.size;
  }

  /** Those that are lent. */
  get busy(): number {
    return this.#all.size - this.#idle.length;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#all].map((worker) => worker.terminate()));
  }

  #start(): Worker {
    // Own stdio streams: the default would open this process's stdout and make pipes non-blocking.
    const worker = this.#startWorker({ stdout: true, stderr: true });
    worker.unref();
    this.#all.add(worker);
    // One that has failed still lives for a moment; it must not be lent again.
    const retire = (): void => {
      this.#all.delete(worker);
      const place = this.#idle.indexOf(worker);
      if (place !== -1) this.#idle.splice(place, 1);
    };
    worker.once('error', retire);
    worker.once('exit', retire);
    return worker;
  }

  #take(): Promise<Worker> {
    const idle = this.#idle.pop();
    if (idle !== undefined) return Promise.resolve(idle);
    if (this.#all.size < MAX_WORKERS) return Promise.resolve(this.#start());
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #giveBack(worker: Worker): void {
    const usable = this.#all.has(worker) ? worker : this.#start();
    const next = this.#waiting.shift();
    if (next === undefined) this.#idle.push(usable);
    else next(usable);
  }
}

function runJob(worker: Worker, job: DecryptJob): Promise<DecryptResult> {
  return new Promise((resolve, reject) => {
    const settle = (): void => {
      worker.off('message', onMessage);
      worker.off('error', onError);
      worker.off('exit', onExit);
    };
    const onMessage = (result: DecryptResult): void => {
      settle();
      resolve(result);
    };
    const onError = (error: unknown): void => {
      settle();
      reject(new LatchkeyError('BUG_UNEXPECTED', 'a decryption worker failed', { cause: error }));
    };
    const onExit = (): void => {
      settle();
      reject(new LatchkeyError('BUG_UNEXPECTED', 'a decryption worker ended'));
    };
    worker.on('message', onMessage);
    worker.on('error', onError);
    worker.on('exit', onExit);
    worker.postMessage(job);
  });
}
