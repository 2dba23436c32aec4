/** What the HTTP server below the admin API takes from a connection, and for how long. */
import {
  ADMIN_HEADERS_TIMEOUT_MS,
  ADMIN_REQUEST_TIMEOUT_MS,
  CONNECTION_CHECK_INTERVAL_MS,
  MAX_ADMIN_HEADER_BYTES,
  TLS_HANDSHAKE_TIMEOUT_MS,
} from '../limits.ts';
import type { AdminTls } from './admin-tls.ts';

export interface AdminTiming {
  /** Until the headers are there. */
  readonly headersMs: number;
  /** Until the whole request is. */
  readonly requestMs: number;
  /** How often connections are looked at. */
  readonly checkEveryMs: number;
}

const TIMING: AdminTiming = {
  headersMs: ADMIN_HEADERS_TIMEOUT_MS,
  requestMs: ADMIN_REQUEST_TIMEOUT_MS,
  checkEveryMs: CONNECTION_CHECK_INTERVAL_MS,
};

/** The options of the framework for its server; over TLS when there is a certificate. */
export function adminServerOptions(tls: AdminTls | null, timing: AdminTiming = TIMING) {
  const http = {
    maxHeaderSize: MAX_ADMIN_HEADER_BYTES,
    headersTimeout: timing.headersMs,
    connectionsCheckingInterval: timing.checkEveryMs,
  };
  const options = { requestTimeout: timing.requestMs };
  if (tls === null) return { ...options, http };
  const https = {
    ...http,
    ...tls,
    minVersion: 'TLSv1.3',
    handshakeTimeout: TLS_HANDSHAKE_TIMEOUT_MS,
  } as const;
  return { ...options, https };
}
