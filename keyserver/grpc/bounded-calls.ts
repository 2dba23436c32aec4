/**
 * Bounds how many calls of a service are under way. When a whole fleet comes at once, a call that would wait for longer
 * than its caller does is turned away at no cost; else the server would work for callers that have gone, and they would
 * ask again.
 */
import type { ServiceDefinition, UntypedServiceImplementation, handleUnaryCall } from '@grpc/grpc-js';
import { LatchkeyError } from '#src/base/errors.ts';
import { toGrpcStatus } from '#src/wire/status.ts';
import { BUSY_RETRY_AFTER_MS, BUSY_RETRY_SPREAD_MS } from '../limits.ts';
import type { CallLog } from './call-log.ts';

export interface CallBound {
  readonly maxCalls: number;
  /** Uniform in [0, 1); spreads those who are turned away. */
  readonly random: () => number;
}

/** The service, whose unary methods answer RATE_LIMITED while so many are under way. A stream stays, and is not counted. */
export function boundedCalls<Service extends UntypedServiceImplementation>(
  service: Service,
  definition: ServiceDefinition,
  { maxCalls, random }: CallBound,
  log: CallLog,
): Service {
  let underWay = 0;
  const bounded = (handler: handleUnaryCall<unknown, unknown>): handleUnaryCall<unknown, unknown> => {
    return (call, callback) => {
      if (underWay >= maxCalls) {
        const error = busy(random());
        log(error, call);
        callback(toGrpcStatus(error));
        return;
      }
      underWay += 1;
      handler(call, (...answer) => {
        underWay -= 1;
        callback(...answer);
      });
    };
  };
  return Object.fromEntries(
    Object.entries(service).map(([method, handler]) => [
      method,
      definition[method]?.responseStream === true
        ? handler
        : bounded(handler as handleUnaryCall<unknown, unknown>),
    ]),
  ) as Service;
}

function busy(random: number): LatchkeyError {
  const retryAfterMs = BUSY_RETRY_AFTER_MS + Math.floor(random * BUSY_RETRY_SPREAD_MS);
  return new LatchkeyError('RATE_LIMITED', 'the key server has more calls than it can answer in time', {
    hint: `try again in ${Math.ceil(retryAfterMs / 1000)} s`,
    retryAfterMs,
  });
}
