/**
 * One writer at a time for a layout's index.json. The lock is an abstract Unix socket named after the directory: the
 * kernel drops it with its owner, so a crash leaves nothing that a later writer would have to judge stale, as it
 * would with a lock file.
 */
import { createHash } from 'node:crypto';
import { createServer, type Server } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { LatchkeyError, systemErrorCode, toLatchkeyError } from '#src/base/errors.ts';
import { LAYOUT_LOCK_TIMEOUT_MS } from '#src/base/limits.ts';

const RETRY_AFTER_MS = 5;

export interface LockOptions {
  /** Ends the wait for others. */
  readonly signal?: AbortSignal | undefined;
  /** What others do meanwhile, for the message. */
  readonly others?: string | undefined;
}

/**
 * Runs `change` while no other process or caller on this machine holds the same lock.
 * @param realDirectory the layout's directory with symbolic links resolved, the same for all writers
 * @throws LatchkeyError STATE_CONFLICT after {@link LAYOUT_LOCK_TIMEOUT_MS}, INTERRUPTED
 */
export async function withLayoutLock<Result>(
  realDirectory: string,
  change: () => Promise<Result>,
  { signal, others = `another program keeps changing ${realDirectory}` }: LockOptions = {},
): Promise<Result> {
  const name = `\0latchkey-layout-${createHash('sha256').update(realDirectory).digest('hex')}`;
  const deadlineMs = performance.now() + LAYOUT_LOCK_TIMEOUT_MS;
  let lock = await tryLock(name);
  while (lock === undefined) {
    if (performance.now() > deadlineMs) {
      throw new LatchkeyError('STATE_CONFLICT', others, {
        hint: 'wait for it to end and run the same command again',
      });
    }
    await sleep(RETRY_AFTER_MS, undefined, { signal }).catch((error: unknown) => {
      throw toLatchkeyError(error);
    });
    lock = await tryLock(name);
  }
  try {
    return await change();
  } finally {
    await unlock(lock);
  }
}

function tryLock(name: string): Promise<Server | undefined> {
  return new Promise((resolve, reject) => {
    // Whoever connects would keep the lock from being given up.
    const server = createServer((socket) => socket.destroy());
    server.once('error', (error) => {
      if (systemErrorCode(error) === 'EADDRINUSE') resolve(undefined);
      else reject(error);
    });
    server.listen(name, () => resolve(server));
  });
}

function unlock(lock: Server): Promise<void> {
  return new Promise((resolve) => {
    lock.close(() => resolve());
  });
}
