/** PostgreSQL's error codes as Latchkey errors (postgresql.org/docs/15/errcodes-appendix.html). */
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';

const DISK_FULL = '53100';
const TRANSACTION_FAILED = '25P02';
const DATA_CORRUPTED = ['XX001', 'XX002'];
/** A server that stops, starts, fails over, is overloaded or waited too long: later the same request may succeed. */
const PASSING = /^(08|40|57P0|57014$|53300$|53400$|25006$|25P03$|55P03$)/;
/** Wrong user, password or database. */
const NOT_ADMITTED = /^(28|3D000$)/;
const SYSTEM_FAILURE = '58';
/** Of pg itself, which gives these no code. */
const LOST_CONNECTION = /connection (error|terminated|ended)|timeout|not queryable|client was closed/i;
const NETWORK_CODE = /^(E[A-Z]+|EAI_[A-Z]+)$/;
const SQLSTATE = /^[0-9A-Z]{5}$/;

/** Gives the LatchkeyError that fits; a constraint or a mistake in a query comes back as it is. */
export function fromPostgresError(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof LatchkeyError) return error;
  const code = systemErrorCode(error) ?? '';
  if (code === DISK_FULL) {
    return new LatchkeyError('STORAGE_FULL', 'the disk of the PostgreSQL server is full', {
      hint: 'free some space there; what was acknowledged before is safe',
      cause: error,
    });
  }
  if (DATA_CORRUPTED.includes(code)) {
    return new LatchkeyError('STATE_DAMAGED', 'the PostgreSQL database is damaged', {
      hint: 'restore it from a backup; see the log of PostgreSQL',
      cause: error,
    });
  }
  if (NOT_ADMITTED.test(code)) {
    return new LatchkeyError('CONFIG_INVALID', `PostgreSQL refuses the connection (${error.message})`, {
      hint: 'check user, password and database name of LATCHKEY_DATABASE or --database',
      cause: error,
    });
  }
  if (code.startsWith(SYSTEM_FAILURE)) {
    return new LatchkeyError('STORAGE_FAILED', `PostgreSQL failed (${error.message})`, {
      hint: 'see the log of PostgreSQL',
      cause: error,
    });
  }
  return isPassing(error, code) ? databaseUnreachable(error) : error;
}

function isPassing(error: Error, code: string): boolean {
  if (PASSING.test(code)) return true;
  if (NETWORK_CODE.test(code) && !isSqlState(error)) return true;
  return code === '' && LOST_CONNECTION.test(error.message);
}

/** Codes like `ECONNREFUSED` are the system's; those of the server come with a severity. */
function isSqlState(error: Error): boolean {
  return 'severity' in error && 'code' in error && SQLSTATE.test(String(error.code));
}

/** True for the refusal of what comes after a failure in the same transaction. */
export function isAfterFailure(error: unknown): boolean {
  return systemErrorCode(error) === TRANSACTION_FAILED;
}

/** A commit that no standby has confirmed: a failover now would lose it. */
export function unreplicated(): LatchkeyError {
  return new LatchkeyError('NET_UNREACHABLE', 'no standby of PostgreSQL has confirmed the commit', {
    hint: 'try again; see synchronous_standby_names and whether a standby is connected',
  });
}

/** What is told of a commit whose answer was lost; other failures of it come back as they are. */
export function unknownOutcome(failure: unknown): unknown {
  if (!(failure instanceof LatchkeyError) || failure.code !== 'NET_UNREACHABLE') return failure;
  return new LatchkeyError(
    'NET_UNREACHABLE',
    'the PostgreSQL database did not answer to the commit: whether it is done is unknown',
    {
      hint: 'try again: a repeat with the same Idempotency-Key is done once',
      cause: failure,
    },
  );
}

function databaseUnreachable(cause: Error): LatchkeyError {
  return new LatchkeyError('NET_UNREACHABLE', 'the PostgreSQL database does not answer', {
    hint: 'try again; the key server connects again by itself',
    cause,
  });
}
