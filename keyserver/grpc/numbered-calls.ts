/** Gives every call of a service an id of its own, for the log and the audit log. */
import type { UntypedServiceImplementation } from '@grpc/grpc-js';
import { forRequest, newRequestId } from '../current-request.ts';

export function numberedCalls<Service extends UntypedServiceImplementation>(service: Service): Service {
  const numbered = Object.entries(service).map(([name, method]) => {
    const handle = method as (...args: unknown[]) => void;
    return [
      name,
      (...args: unknown[]) => {
        forRequest(newRequestId(), () => {
          handle(...args);
        });
      },
    ];
  });
  return Object.fromEntries(numbered) as Service;
}
