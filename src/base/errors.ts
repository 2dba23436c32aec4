/**
 * The one error type of Latchkey and the one table that says what each code means at every boundary:
 * exit status (sysexits.h), gRPC status (grpc/doc/statuscodes.md) and HTTP status (RFC 9110).
 * `TypeError` stays for caller bugs; everything that data, people or the world can cause is a LatchkeyError.
 */

import { getSystemErrorMessage, inspect } from 'node:util';
import { sqliteFailure } from './sqlite-failure.ts';

/** Exit statuses, after sysexits.h, so that scripts can branch on them. */
const EXIT = {
  usage: 2,
  data: 65,
  notFound: 66,
  unavailable: 69,
  bug: 70,
  io: 74,
  retryLater: 75,
  denied: 77,
  config: 78,
  interrupted: 130,
} as const;

/** gRPC status numbers; named here so that the table below does not import a gRPC library. */
const GRPC = {
  cancelled: 1,
  invalidArgument: 3,
  deadlineExceeded: 4,
  notFound: 5,
  alreadyExists: 6,
  permissionDenied: 7,
  resourceExhausted: 8,
  failedPrecondition: 9,
  internal: 13,
  unavailable: 14,
  dataLoss: 15,
  unauthenticated: 16,
} as const;

interface ErrorClass {
  /** Process exit status of a command that ends with this error. */
  readonly exit: number;
  /** gRPC status number. */
  readonly grpc: number;
  /** HTTP status. */
  readonly http: number;
  /** True when the same request may succeed later without a change. */
  readonly retryable: boolean;
}

function errorClass(exit: number, grpc: number, http: number, retryable = false): ErrorClass {
  return { exit, grpc, http, retryable };
}

const DENIED = errorClass(EXIT.denied, GRPC.permissionDenied, 403);
const BAD_INPUT = errorClass(EXIT.data, GRPC.invalidArgument, 422);

/** Code -> meaning at each boundary. Codes are grouped by who has to act. */
export const ERROR_TABLE = {
  USAGE_INVALID: errorClass(EXIT.usage, GRPC.invalidArgument, 400),
  CONFIG_INVALID: errorClass(EXIT.config, GRPC.failedPrecondition, 500),

  INPUT_REFERENCE_INVALID: errorClass(EXIT.usage, GRPC.invalidArgument, 400),
  INPUT_NOT_AN_IMAGE: BAD_INPUT,
  INPUT_MALFORMED: BAD_INPUT,
  INPUT_UNSUPPORTED: BAD_INPUT,
  INPUT_DIGEST_MISMATCH: errorClass(EXIT.data, GRPC.dataLoss, 422),
  INPUT_SECRET_EXPOSED: BAD_INPUT,
  INPUT_TRUNCATED: errorClass(EXIT.data, GRPC.dataLoss, 422),
  INPUT_LICENSE_KEY_MALFORMED: errorClass(EXIT.data, GRPC.invalidArgument, 400),
  INPUT_STATEMENT_MISMATCH: BAD_INPUT,

  CRYPTO_AUTHENTICATION_FAILED: errorClass(EXIT.data, GRPC.dataLoss, 422),
  KEY_NOT_FOUND: errorClass(EXIT.denied, GRPC.permissionDenied, 403),
  KEY_INVALID: BAD_INPUT,
  KEY_PROVIDER_FAILED: errorClass(EXIT.unavailable, GRPC.unavailable, 502),

  AUTH_REQUIRED: errorClass(EXIT.denied, GRPC.unauthenticated, 401),
  AUTH_FORBIDDEN: DENIED,

  DENIED_SEALED: errorClass(EXIT.denied, GRPC.unavailable, 503),
  DENIED_NODE_NOT_ACTIVATED: DENIED,
  DENIED_NODE_UNKNOWN: DENIED,
  DENIED_NODE_BANNED: DENIED,
  DENIED_NODE_RETIRED: DENIED,
  DENIED_NODE_RESTORED: DENIED,
  DENIED_NODE_CLONED: DENIED,
  DENIED_LICENSE_NOT_FOUND: DENIED,
  DENIED_JOIN_TOKEN_UNKNOWN: DENIED,
  DENIED_JOIN_TOKEN_EXPIRED: DENIED,
  DENIED_JOIN_TOKEN_USED: DENIED,
  DENIED_CUSTOMER_BLOCKED: DENIED,
  DENIED_LICENSE_REVOKED: DENIED,
  DENIED_LICENSE_SUSPENDED: DENIED,
  DENIED_LICENSE_NOT_STARTED: DENIED,
  DENIED_LICENSE_EXPIRED: DENIED,
  DENIED_IMAGE_UNKNOWN: DENIED,
  DENIED_IMAGE_YANKED: DENIED,
  DENIED_KEY_UNAVAILABLE: DENIED,
  DENIED_PRODUCT_MISMATCH: DENIED,
  DENIED_VERSION_NOT_COVERED: DENIED,
  DENIED_ENTITLEMENT_MISSING: DENIED,
  DENIED_INSTALLATION_LIMIT: DENIED,
  DENIED_NODE_LIMIT: DENIED,
  DENIED_CONCURRENCY_LIMIT: DENIED,
  DENIED_ATTESTATION_REQUIRED: DENIED,
  DENIED_CLOCK_SKEW: DENIED,
  DENIED_REPLAY: DENIED,
  DENIED_LEASE_CLONED: DENIED,
  DENIED_CLOCK_ROLLBACK: DENIED,
  DENIED_SERVER_ROLLBACK: DENIED,
  DENIED_LEASE_EXPIRED: DENIED,
  DENIED_OFFLINE_STARTS: DENIED,
  DENIED_LEASE_INVALID: DENIED,
  DENIED_FOREIGN_UNPACK: DENIED,
  DENIED_STATEMENT_INVALID: DENIED,
  DENIED_IMAGE_ALTERED: DENIED,

  NET_UNREACHABLE: errorClass(EXIT.unavailable, GRPC.unavailable, 503, true),
  NET_TIMEOUT: errorClass(EXIT.retryLater, GRPC.deadlineExceeded, 504, true),
  NET_TLS: errorClass(EXIT.unavailable, GRPC.unavailable, 502),
  NET_REGISTRY: errorClass(EXIT.unavailable, GRPC.unavailable, 502, true),
  NET_UNAUTHORIZED: errorClass(EXIT.denied, GRPC.unauthenticated, 401),

  STATE_NOT_FOUND: errorClass(EXIT.notFound, GRPC.notFound, 404),
  STATE_CONFLICT: errorClass(EXIT.data, GRPC.alreadyExists, 409),
  STATE_PRECONDITION: errorClass(EXIT.data, GRPC.failedPrecondition, 412),
  STATE_REVISION_STALE: errorClass(EXIT.data, GRPC.failedPrecondition, 412),
  STATE_SESSION_STALE: errorClass(EXIT.retryLater, GRPC.failedPrecondition, 412, true),
  STATE_NEWER_SCHEMA: errorClass(EXIT.config, GRPC.failedPrecondition, 500),
  STATE_DAMAGED: errorClass(EXIT.data, GRPC.dataLoss, 500),
  STATE_PORT_IN_USE: errorClass(EXIT.unavailable, GRPC.unavailable, 503),

  STORAGE_FULL: errorClass(EXIT.io, GRPC.resourceExhausted, 507),
  STORAGE_FAILED: errorClass(EXIT.io, GRPC.internal, 500),
  LIMIT_EXCEEDED: errorClass(EXIT.data, GRPC.resourceExhausted, 413),
  RATE_LIMITED: errorClass(EXIT.retryLater, GRPC.resourceExhausted, 429, true),
  INTERRUPTED: errorClass(EXIT.interrupted, GRPC.cancelled, 499),
  BUG_UNEXPECTED: errorClass(EXIT.bug, GRPC.internal, 500),
} as const satisfies Record<string, ErrorClass>;

export type ErrorCode = keyof typeof ERROR_TABLE;
export type DeniedCode = Extract<ErrorCode, `DENIED_${string}`>;

export interface LatchkeyErrorOptions {
  /** What the reader can do next, one sentence. */
  readonly hint?: string | undefined;
  /** The underlying failure, for logs; never shown on the wire. */
  readonly cause?: unknown;
  /** The license a denial is about. */
  readonly licenseId?: string | undefined;
  /** The ISV's contact line, shown with denials. */
  readonly contact?: string | undefined;
  /** When the same request may be made again, from now. */
  readonly retryAfterMs?: number | undefined;
}

export class LatchkeyError extends Error {
  override readonly name = 'LatchkeyError';
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly licenseId: string | undefined;
  readonly contact: string | undefined;
  readonly retryAfterMs: number | undefined;

  constructor(code: ErrorCode, message: string, options: LatchkeyErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint;
    this.licenseId = options.licenseId;
    this.contact = options.contact;
    this.retryAfterMs = options.retryAfterMs;
  }

  /** The one line a person sees: code, what happened, license, what to do next, whom to ask. */
  get line(): string {
    const parts = [`${this.code}: ${this.message}`];
    if (this.licenseId !== undefined && !this.message.includes(this.licenseId)) {
      parts.push(`license ${this.licenseId}`);
    }
    if (this.hint !== undefined) parts.push(this.hint);
    if (this.contact !== undefined) parts.push(`contact: ${this.contact}`);
    return parts.join('; ');
  }
}

/** True for a string that is one of our codes; used where errors come back over a wire. */
export function isErrorCode(value: unknown): value is ErrorCode {
  return typeof value === 'string' && Object.hasOwn(ERROR_TABLE, value);
}

/** True for a code that means "the license decision said no". */
export function isDeniedCode(code: ErrorCode): code is DeniedCode {
  return code.startsWith('DENIED_');
}

/** Node's `code` property of a system error (`ENOSPC`, `EADDRINUSE`), or undefined. */
export function systemErrorCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

/**
 * Gives any thrown value as a LatchkeyError: system errors get the code and the advice that fit them,
 * an abort becomes INTERRUPTED, the rest is BUG_UNEXPECTED with the original as cause.
 */
export function toLatchkeyError(error: unknown): LatchkeyError {
  if (error instanceof LatchkeyError) return error;
  // Not String(): an object may have a toString that throws.
  const message = error instanceof Error ? error.message : inspect(error);
  if (error instanceof Error && error.name === 'AbortError') {
    return new LatchkeyError('INTERRUPTED', 'interrupted', { cause: error });
  }
  switch (sqliteFailure(error) === 'full' ? 'ENOSPC' : systemErrorCode(error)) {
    case 'ENOSPC':
    case 'EDQUOT':
      return new LatchkeyError('STORAGE_FULL', `the disk is full (${message})`, {
        hint: 'free some space and run the same command again',
        cause: error,
      });
    case 'EADDRINUSE':
      return new LatchkeyError('STATE_PORT_IN_USE', `the address is already in use (${message})`, {
        hint: 'stop the other program or choose another port',
        cause: error,
      });
    case 'ECONNREFUSED':
    case 'ECONNRESET':
    case 'EHOSTUNREACH':
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return new LatchkeyError('NET_UNREACHABLE', message, {
        hint: 'check the address and that the server runs',
        cause: error,
      });
    case 'ENOENT':
      return fileError('STATE_NOT_FOUND', error, 'check the path');
    case 'EACCES':
    case 'EPERM':
      return fileError('STORAGE_FAILED', error, 'run it as a user who may do this, or name another place');
    case 'EROFS':
      return fileError('STORAGE_FAILED', error, 'name a place that can be written');
    case 'ENOTDIR':
    case 'EISDIR':
    case 'EEXIST':
    case 'ELOOP':
    case 'ENAMETOOLONG':
      return fileError('STORAGE_FAILED', error, 'name another path');
    case 'EIO':
      return fileError('STORAGE_FAILED', error, 'check the disk');
    default:
      return new LatchkeyError('BUG_UNEXPECTED', message, {
        hint: 'this is a defect in Latchkey; please report it',
        cause: error,
      });
  }
}

/** A system error in the words of the operating system, with the path that it is about where Node says it. */
function fileError(code: ErrorCode, error: unknown, hint: string): LatchkeyError {
  const { message } = error as Error;
  const { errno, path } = error as NodeJS.ErrnoException;
  const isDescribed = errno !== undefined && path !== undefined && path !== '';
  return new LatchkeyError(code, isDescribed ? `${getSystemErrorMessage(errno)}: ${path}` : message, {
    hint,
    cause: error,
  });
}
