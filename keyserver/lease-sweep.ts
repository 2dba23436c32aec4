/** Deletes leases that ended long ago while the server runs; on one database, one process at a time. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { toLatchkeyError } from '#src/base/errors.ts';
import { deleteEndedLeases } from './domain/ended-leases.ts';
import type { KeyServer } from './domain/key-server.ts';
import { LEASE_SWEEP_INTERVAL_MS } from './limits.ts';

/**
 * Starts it; nothing waits for it. What fails is logged and tried again.
 * @returns a function that ends it and waits for the step under way
 */
export function startLeaseSweep(
  server: Pick<KeyServer, 'store' | 'clock'>,
  logger: Logger,
): () => Promise<void> {
  const stopping = new AbortController();
  const { signal } = stopping;
  const duty = server.store.duty('lease sweep');
  const sweep = async () => {
    try {
      if (!(await duty.isOurs())) return;
      const deleted = await deleteEndedLeases(server, signal);
      if (deleted > 0) logger.info({ deleted }, 'leases that ended long ago deleted');
    } catch (error) {
      const { code, message } = toLatchkeyError(error);
      logger.error({ code, cause: message }, 'leases that ended long ago were not deleted');
    } finally {
      // It is seldom, and no connection has to wait for the next time.
      await duty.release();
    }
  };
  const running = (async () => {
    while (!signal.aborted) {
      await sweep();
      // Cut short by the end.
      await sleep(LEASE_SWEEP_INTERVAL_MS, undefined, { signal, ref: false }).catch(() => undefined);
    }
  })();
  return async () => {
    stopping.abort();
    await running;
  };
}
