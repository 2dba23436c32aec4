/** A real gRPC server on a unix socket, for services that a test scripts. */
import { Server, ServerCredentials, type UntypedServiceImplementation } from '@grpc/grpc-js';

type Service = Parameters<Server['addService']>[0];

export interface SocketServer {
  readonly socketPath: string;
  /** Cuts every connection and stops listening. */
  close(): void;
}

/** Serves implementations of services on a socket. */
export async function serveOnSocket(
  socketPath: string,
  services: readonly (readonly [Service, UntypedServiceImplementation])[],
): Promise<SocketServer> {
  const server = new Server();
  for (const [service, implementation] of services) server.addService(service, implementation);
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(`unix://${socketPath}`, ServerCredentials.createInsecure(), (error) => {
      if (error === null) resolve();
      else reject(error);
    });
  });
  return {
    socketPath,
    close: () => {
      server.forceShutdown();
    },
  };
}
