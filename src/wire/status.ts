/**
 * Latchkey errors as gRPC statuses and back. The code, hint, license and contact travel as metadata, so that
 * the person at the far end reads the same line; causes stay on the side where they happened.
 */
import { Metadata, type ServiceError, type StatusObject, status as grpcStatus } from '@grpc/grpc-js';
import * as z from 'zod';
import { ERROR_TABLE, LatchkeyError, isErrorCode, toLatchkeyError } from '#src/base/errors.ts';
import { parseJson } from '#src/base/json.ts';
import type { Any } from './generated/google/protobuf/any.ts';
import { ErrorInfo, RetryInfo } from './generated/google/rpc/error_details.ts';
import { Status } from './generated/google/rpc/status.ts';

/** Where programs that know nothing of Latchkey look (googleapis, google/rpc/status.proto). */
const STATUS_KEY = 'grpc-status-details-bin';
const ERROR_DOMAIN = 'latchkey';

/** Binary metadata, because messages may hold any character. */
const DETAIL_KEY = 'latchkey-error-bin';

const detailSchema = z.object({
  code: z.string(),
  message: z.string(),
  hint: z.string().optional(),
  licenseId: z.string().optional(),
  contact: z.string().optional(),
  retryAfterMs: z.int().min(0).optional(),
});

type WireDetail = z.infer<typeof detailSchema>;

/** The status object a handler answers with; unknown errors show no more than that they happened. */
export function toGrpcStatus(error: unknown): Partial<StatusObject> {
  const known = toLatchkeyError(error);
  const message = known.code === 'BUG_UNEXPECTED' ? 'internal error' : known.message;
  const detail: WireDetail = {
    code: known.code,
    message,
    hint: known.hint,
    licenseId: known.licenseId,
    contact: known.contact,
    retryAfterMs: known.retryAfterMs,
  };
  const metadata = new Metadata();
  metadata.set(DETAIL_KEY, Buffer.from(JSON.stringify(detail)));
  if (known.retryAfterMs !== undefined) metadata.set(STATUS_KEY, retryStatus(known, known.retryAfterMs));
  // Foreign callers (containerd) show only the details, so they carry the whole line.
  const details = known.code === 'BUG_UNEXPECTED' ? `BUG_UNEXPECTED: ${message}` : known.line;
  return { code: ERROR_TABLE[known.code].grpc, details, metadata };
}

/** Says when to come back as google.rpc.RetryInfo, and why as google.rpc.ErrorInfo. */
function retryStatus({ code, message }: LatchkeyError, retryAfterMs: number): Buffer {
  const retryDelay = { seconds: Math.floor(retryAfterMs / 1000), nanos: (retryAfterMs % 1000) * 1_000_000 };
  const status = Status.encode({
    code: ERROR_TABLE[code].grpc,
    message,
    details: [
      anyOf('google.rpc.RetryInfo', RetryInfo.encode({ retryDelay }).finish()),
      anyOf('google.rpc.ErrorInfo', ErrorInfo.encode({ reason: code, domain: ERROR_DOMAIN }).finish()),
    ],
  });
  return Buffer.from(status.finish());
}

function anyOf(type: string, bytes: Uint8Array): Any {
  return { typeUrl: `type.googleapis.com/${type}`, value: Buffer.from(bytes) };
}

/** What kept grpc-js from connecting is in its details only: a refused certificate, or OpenSSL's words without their places. */
const TLS_FAILURE =
  /Last error: (?:Error: )?(?:[^:]+:error:[^:]+:SSL routines:[^:]*:(?<reason>[^:]+)|(?<reason>[^\n]*(?:certificate|altnames)[^\n]*?)(?:\.? Resolution note|$))/;

/**
 * The LatchkeyError behind a failed call: the far end's own, or NET_* when the call did not get there.
 * @param peer what was called, for the message: `key server at host:port`
 */
export function fromGrpcError(error: unknown, peer: string): LatchkeyError {
  if (error instanceof LatchkeyError) return error;
  if (!isServiceError(error)) return toLatchkeyError(error);
  const detail = readDetail(error.metadata);
  if (detail !== undefined) {
    const { message, hint, licenseId, contact, retryAfterMs } = detail;
    const code = isErrorCode(detail.code) ? detail.code : 'BUG_UNEXPECTED';
    return new LatchkeyError(code, message, { hint, licenseId, contact, retryAfterMs, cause: error });
  }
  switch (error.code) {
    case grpcStatus.DEADLINE_EXCEEDED:
      return new LatchkeyError('NET_TIMEOUT', `${peer} did not answer in time`, { cause: error });
    case grpcStatus.CANCELLED:
      return new LatchkeyError('INTERRUPTED', 'the call was cancelled', { cause: error });
    case grpcStatus.UNAVAILABLE:
      return notConnected(error, peer);
    case grpcStatus.UNIMPLEMENTED:
      return new LatchkeyError('INPUT_UNSUPPORTED', `${peer} does not know this question`, {
        hint: 'it is older than this side; update it',
        cause: error,
      });
    default:
      return new LatchkeyError('BUG_UNEXPECTED', `${peer} answered ${error.details}`, { cause: error });
  }
}

/** True for what the far end itself said, rather than for a call that did not get there. */
export function isFarEndsOwn(error: unknown): boolean {
  return isServiceError(error) && readDetail(error.metadata) !== undefined;
}

/** Whoever was reached but is not believed is not unreachable: another setting is wrong then. */
function notConnected(error: ServiceError, peer: string): LatchkeyError {
  const reason = TLS_FAILURE.exec(error.details)?.groups?.['reason'];
  if (reason === undefined)
    return new LatchkeyError('NET_UNREACHABLE', `${peer} is unreachable`, { cause: error });
  return new LatchkeyError('NET_TLS', `${peer} was reached, but not by trusted TLS (${reason})`, {
    hint: 'check host and port, and that authority.pem is from the same key server',
    cause: error,
  });
}

/** The far end's own words; undefined when it is not Latchkey, or says them in a form we do not know. */
function readDetail(metadata: Metadata): WireDetail | undefined {
  const [raw] = metadata.get(DETAIL_KEY);
  if (raw === undefined) return undefined;
  try {
    return detailSchema.safeParse(parseJson(raw, 'the error detail')).data;
  } catch (error) {
    if (error instanceof LatchkeyError) return undefined;
    throw error;
  }
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'metadata' in error && error.metadata instanceof Metadata;
}
