/** Says early that the disk of the database fills up, and takes back what was given of the reserve once there is room. */
import type { Logger } from 'pino';
import { toLatchkeyError } from '#src/base/errors.ts';
import type { DiskState, SpaceReserve } from './db/space-reserve.ts';
import { DISK_CHECK_INTERVAL_MS } from './limits.ts';

const MESSAGES: Readonly<Record<DiskState, string>> = {
  OK: 'the disk of the database has room again',
  LOW: 'the disk of the database is filling up: free some space before nothing but revocations is written',
  FULL: 'the disk of the database is full: only what takes rights away and the audit log are written',
};

/**
 * Puts the reserve in force and looks at the disk from then on.
 * @param reserve null where the disk is that of a PostgreSQL, which only its own monitoring sees
 * @returns a function that ends it
 */
export async function startDiskWatch(reserve: SpaceReserve | null, logger: Logger): Promise<() => void> {
  if (reserve === null) return () => undefined;
  let last: DiskState = 'OK';
  const look = async () => {
    try {
      if (reserve.isClosed) await reserve.fill();
      const state = await reserve.diskState();
      if (state === last) return;
      last = state;
      const fields = { code: `DISK_${state}`, freeBytes: await reserve.freeBytes() };
      if (state === 'OK') logger.info(fields, MESSAGES.OK);
      else logger.error(fields, MESSAGES[state]);
    } catch (error) {
      const { code, message } = toLatchkeyError(error);
      logger.error({ code, cause: message }, 'the disk of the database cannot be looked at');
    }
  };
  await reserve.putInForce();
  await look();
  const timer = setInterval(() => {
    void look();
  }, DISK_CHECK_INTERVAL_MS);
  timer.unref();
  return () => {
    clearInterval(timer);
  };
}
