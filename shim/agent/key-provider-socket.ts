/** The key provider service on a unix socket of its own that only root can open, from its first moment on. */
import { chmod, lstat, mkdtemp, rename, rm } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { dirname, join } from 'node:path';
import { Server, ServerCredentials, type UntypedServiceImplementation } from '@grpc/grpc-js';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';
import { MAX_PROVIDER_MESSAGE_BYTES } from '#src/base/limits.ts';
import { keyProviderService } from '#src/keywrap/provider-service.ts';

const OWNER_ONLY = 0o600;

export interface KeyProviderSocket {
  /** Lets calls under way end, then takes no more. */
  close(): Promise<void>;
}

/**
 * Serves the handlers.
 * @throws LatchkeyError CONFIG_INVALID for a path that cannot be a socket, STATE_CONFLICT when somebody answers there
 */
export async function serveKeyProvider(
  socketPath: string,
  handlers: UntypedServiceImplementation,
): Promise<KeyProviderSocket> {
  await refuseForeign(socketPath);
  const server = new Server({ 'grpc.max_receive_message_length': MAX_PROVIDER_MESSAGE_BYTES });
  server.addService(keyProviderService, handlers);
  await bindOwnerOnly(server, socketPath);
  return {
    close: async () => {
      await new Promise<void>((resolve) => {
        server.tryShutdown(() => {
          resolve();
        });
      });
      await rm(socketPath, { force: true });
    },
  };
}

/** A socket gets its mode after it exists, so it is made where nobody else can look and moved to its place then. */
async function bindOwnerOnly(server: Server, socketPath: string): Promise<void> {
  const directory = await mkdtemp(join(dirname(socketPath), '.latchkey-')).catch((error: unknown) => {
    throw unusable(socketPath, 'its directory cannot be written to', error);
  });
  try {
    const temporary = join(directory, 's');
    await new Promise<void>((resolve, reject) => {
      server.bindAsync(`unix://${temporary}`, ServerCredentials.createInsecure(), (error) => {
        if (error === null) resolve();
        else reject(error);
      });
    });
    await chmod(temporary, OWNER_ONLY);
    await rename(temporary, socketPath);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function refuseForeign(socketPath: string): Promise<void> {
  const status = await lstat(socketPath).catch((error: unknown) => {
    if (systemErrorCode(error) === 'ENOENT') return undefined;
    throw unusable(socketPath, 'it cannot be reached', error);
  });
  if (status === undefined) return;
  if (!status.isSocket()) throw unusable(socketPath, 'there is something else of that name');
  if (await isAnswered(socketPath)) {
    throw new LatchkeyError('STATE_CONFLICT', `another program answers on ${socketPath}`, {
      hint: 'stop it, or give key_provider.socket another path',
    });
  }
}

function isAnswered(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(socketPath, () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => {
      resolve(false);
    });
  });
}

function unusable(socketPath: string, reason: string, cause?: unknown): LatchkeyError {
  return new LatchkeyError('CONFIG_INVALID', `key_provider.socket ${socketPath}: ${reason}`, {
    hint: 'name a path in a directory that exists, such as /run/latchkey/key-provider.sock',
    cause,
  });
}
