/** Counts the calls of a service and what was decided in them, around its handlers. */
import type {
  ServerUnaryCall,
  ServerWritableStream,
  ServiceDefinition,
  UntypedServiceImplementation,
  handleServerStreamingCall,
  handleUnaryCall,
} from '@grpc/grpc-js';
import type { Clock } from '#src/base/clock.ts';
import type { RenewLeasesResponse } from '#src/wire/generated/latchkey/node.ts';
import { fromGrpcError } from '#src/wire/status.ts';
import type { DecisionKind, KeyServerMetrics } from '../metrics/key-server-metrics.ts';

const OK = 'OK';
const ALLOWED = 'ALLOWED';

/** Methods whose answer is one decision. */
const DECISIONS: Readonly<Record<string, DecisionKind>> = {
  acquireLease: 'acquire',
  activate: 'activate',
  authenticate: 'authenticate',
};

/** Wraps every handler of a service. */
export function observedService(
  definition: ServiceDefinition,
  service: UntypedServiceImplementation,
  metrics: KeyServerMetrics,
  clock: Pick<Clock, 'monotonicMs'>,
): UntypedServiceImplementation {
  return Object.fromEntries(
    Object.entries(service).map(([method, handler]) => {
      const isStream = definition[method]?.responseStream === true;
      const observed = isStream
        ? observedStream(method, handler as handleServerStreamingCall<unknown, unknown>, metrics, clock)
        : observedUnary(method, handler as handleUnaryCall<unknown, unknown>, metrics, clock);
      return [method, observed];
    }),
  );
}

function observedUnary(
  method: string,
  handler: handleUnaryCall<unknown, unknown>,
  metrics: KeyServerMetrics,
  clock: Pick<Clock, 'monotonicMs'>,
): handleUnaryCall<unknown, unknown> {
  return (call: ServerUnaryCall<unknown, unknown>, callback) => {
    const startedAtMs = clock.monotonicMs();
    handler(call, (error, value, ...rest) => {
      const code = error === null ? OK : codeOf(error);
      metrics.call(method, code, clock.monotonicMs() - startedAtMs);
      countDecisions(method, code, value, metrics);
      callback(error, value, ...rest);
    });
  };
}

function observedStream(
  method: string,
  handler: handleServerStreamingCall<unknown, unknown>,
  metrics: KeyServerMetrics,
  clock: Pick<Clock, 'monotonicMs'>,
): handleServerStreamingCall<unknown, unknown> {
  return (call: ServerWritableStream<unknown, unknown>) => {
    const startedAtMs = clock.monotonicMs();
    let isCounted = false;
    const ended = (code: string) => {
      if (isCounted) return;
      isCounted = true;
      metrics.call(method, code, clock.monotonicMs() - startedAtMs);
    };
    call.on('error', (error) => {
      ended(codeOf(error));
    });
    call.on('cancelled', () => {
      ended(OK);
    });
    handler(call);
  };
}

function countDecisions(method: string, code: string, value: unknown, metrics: KeyServerMetrics): void {
  const kind = DECISIONS[method];
  if (kind !== undefined && (code === OK || code.startsWith('DENIED_'))) {
    metrics.decision(kind, code === OK ? ALLOWED : code);
  }
  if (method !== 'renewLeases' || code !== OK) return;
  for (const { outcome } of (value as RenewLeasesResponse).results) {
    metrics.decision('renew', outcome?.$case === 'denial' ? outcome.value.code : ALLOWED);
  }
}

/** Our own code travels in the metadata of the status that a handler answers with. */
function codeOf(error: unknown): string {
  return fromGrpcError(Object.assign(new Error(), error), 'key server').code;
}
