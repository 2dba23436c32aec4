/**
 * Worker threads for layers. A layer keeps its worker while containerd is slow, so there are as many as layers are unpacked
 * at once; each takes a dozen megabytes, so those that nobody needs any more end.
 */
import type { Worker, WorkerOptions } from 'node:worker_threads';
import { LatchkeyError } from '#src/base/errors.ts';
import type { DecryptJob, DecryptResult } from './decrypt-job.ts';

/** More layers at once than this wait: each holds a thread and its buffers. */
const MAX_WORKERS = 32;
/** containerd unpacks the layers of one image one after another; between two it fetches, and commits to its disk. */
const IDLE_MS = 5000;

export class WorkerPool {
  readonly #startWorker: (options: WorkerOptions) => Worker;
  readonly #idleMs: number;
  /** The one used last comes last. */
  readonly #idle: Worker[] = [];
  readonly #endings = new Map<Worker, NodeJS.Timeout>();
  readonly #waiting: ((worker: Worker) => void)[] = [];
  readonly #all = new Set<Worker>();

  /**
   * @param startWorker starts a thread of `decrypt-worker.ts`
   * @param idleMs how long one stays that nobody needs
   */
  constructor(startWorker: (options: WorkerOptions) => Worker, idleMs = IDLE_MS) {
    this.#startWorker = startWorker;
    this.#idleMs = idleMs;
  }

  /** A layer will come in a moment: a thread starts meanwhile, if none is there. */
  foresee(): void {
    if (this.#idle.length === 0 && this.#all.size < MAX_WORKERS) this.#rest(this.#start());
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
      this.#retire(worker);
    };
    worker.once('error', retire);
    worker.once('exit', retire);
    return worker;
  }

  #take(): Promise<Worker> {
    const idle = this.#idle.pop();
    if (idle !== undefined) {
      clearTimeout(this.#endings.get(idle));
      return Promise.resolve(idle);
    }
    if (this.#all.size < MAX_WORKERS) return Promise.resolve(this.#start());
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #giveBack(worker: Worker): void {
    const usable = this.#all.has(worker) ? worker : this.#start();
    const next = this.#waiting.shift();
    if (next === undefined) this.#rest(usable);
    else next(usable);
  }

  #rest(worker: Worker): void {
    this.#idle.push(worker);
    const ending = setTimeout(() => {
      // Out of the books first: it must not be lent while it ends.
      this.#retire(worker);
      void worker.terminate();
    }, this.#idleMs);
    ending.unref();
    this.#endings.set(worker, ending);
  }

  #retire(worker: Worker): void {
    clearTimeout(this.#endings.get(worker));
    this.#endings.delete(worker);
    this.#all.delete(worker);
    const place = this.#idle.indexOf(worker);
    if (place !== -1) this.#idle.splice(place, 1);
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
