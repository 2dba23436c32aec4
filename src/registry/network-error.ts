/** What a failed fetch means to the person at the keyboard. */
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';

const TIMEOUT_CODES = new Set([
  'ETIMEDOUT',
  'UND_ERR_CONNECT_TIMEOUT',
  'UND_ERR_HEADERS_TIMEOUT',
  'UND_ERR_BODY_TIMEOUT',
]);
/** OpenSSL's verification results and TLS failures, as Node names them. */
const TLS_CODE_PATTERN = /^(?:ERR_TLS_|ERR_SSL_|EPROTO$|CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_)/;
const MAX_CAUSES = 5;

/**
 * Gives a thrown value of fetch, or of reading its body, as a LatchkeyError.
 * @param url whose host is named; its path and query may hold signatures and are left out
 * @returns NET_TIMEOUT, NET_TLS, NET_UNREACHABLE or INTERRUPTED; a LatchkeyError as it is
 */
export function networkError(
  error: unknown,
  url: URL,
  context: { readonly isTimeout?: boolean; readonly isInterrupted?: boolean } = {},
): LatchkeyError {
  const causes = causeChain(error);
  const known = causes.find((cause) => cause instanceof LatchkeyError);
  if (known !== undefined) return known;
  const codes = causes.map(systemErrorCode).filter((code) => code !== undefined);
  if (context.isTimeout === true || codes.some((code) => TIMEOUT_CODES.has(code))) {
    return new LatchkeyError('NET_TIMEOUT', `${url.host} did not answer in time`, {
      hint: 'run the same command again; what is done is kept',
      cause: error,
    });
  }
  const isAbort = causes.some((cause) => cause instanceof Error && cause.name === 'AbortError');
  if (isAbort || context.isInterrupted === true) {
    return new LatchkeyError('INTERRUPTED', 'interrupted', { cause: error });
  }
  const tlsCode = codes.find((code) => TLS_CODE_PATTERN.test(code));
  if (tlsCode !== undefined) {
    const isPlain =
      tlsCode === 'ERR_SSL_WRONG_VERSION_NUMBER' || tlsCode === 'ERR_SSL_PACKET_LENGTH_TOO_LONG';
    return new LatchkeyError('NET_TLS', `no trusted TLS connection to ${url.host} (${tlsCode})`, {
      hint: isPlain
        ? 'the registry seems to speak plain HTTP; if its network is trusted, allow that with --allow-http'
        : 'give the registry a certificate this machine trusts (NODE_EXTRA_CA_CERTS adds an authority)',
      cause: error,
    });
  }
  const reason = codes.at(-1) ?? 'connection lost';
  return new LatchkeyError('NET_UNREACHABLE', `${url.host} is unreachable (${reason})`, {
    hint: 'check the name, the network and that the registry runs, then run the same command again',
    cause: error,
  });
}

/** Fetch hides the system error one or two causes deep. */
function causeChain(error: unknown): unknown[] {
  const chain: unknown[] = [];
  for (let cause = error; cause !== undefined && chain.length < MAX_CAUSES;) {
    chain.push(cause);
    cause = cause instanceof Error ? cause.cause : undefined;
  }
  return chain;
}
