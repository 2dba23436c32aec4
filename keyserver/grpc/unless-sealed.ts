/** The one place where a sealed key server turns nodes away: before anything of their call is looked at. */
import type { UntypedServiceImplementation } from '@grpc/grpc-js';
import { toGrpcStatus } from '#src/wire/status.ts';
import type { KeyServer } from '../domain/key-server.ts';
import { sealed } from '../domain/seal.ts';
import type { CallLog } from './call-log.ts';

/** The part of every call, unary or streaming, that is needed to refuse it. */
interface AnyCall {
  getPath(): string;
  getPeer(): string;
  emit(event: 'error', status: ReturnType<typeof toGrpcStatus>): boolean;
}

type AnyHandler = (call: AnyCall, callback?: (status: ReturnType<typeof toGrpcStatus>) => void) => void;

/** The service, whose every method answers DENIED_SEALED while the key server is sealed. */
export function unlessSealed<Service extends UntypedServiceImplementation>(
  service: Service,
  { seal }: KeyServer,
  log: CallLog,
): Service {
  const guarded = Object.entries(service).map(([name, method]) => {
    const handle = method as AnyHandler;
    const guard: AnyHandler = (call, callback) => {
      if (!seal.isSealed) {
        handle(call, callback);
        return;
      }
      const error = sealed();
      log(error, call);
      if (callback === undefined) call.emit('error', toGrpcStatus(error));
      else callback(toGrpcStatus(error));
    };
    return [name, guard];
  });
  return Object.fromEntries(guarded) as Service;
}
