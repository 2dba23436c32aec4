/** Failures of the database itself, of whichever kind it is. */
import { LatchkeyError } from '#src/base/errors.ts';

/** True for errors after which a whole transaction is lost, not just the request that met them. */
export function isStorageFailure(error: unknown): boolean {
  return (
    error instanceof LatchkeyError &&
    (error.code.startsWith('STORAGE_') || error.code === 'STATE_DAMAGED' || error.code === 'NET_UNREACHABLE')
  );
}

/** True for the failure that is over once there is room. */
export function isDiskFull(error: unknown): boolean {
  return error instanceof LatchkeyError && error.code === 'STORAGE_FULL';
}
