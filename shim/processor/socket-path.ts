/** What both kinds of stream processor say and check about the agent's socket. */
import { LatchkeyError } from '#src/base/errors.ts';

/** sun_path (unix(7)); one byte is the closing zero. */
const MAX_SOCKET_PATH_BYTES = 107;

/** How long stdout outlives a processor that failed, so that containerd reads its exit status and message first. */
export const HOLD_OUTPUT_MS = 300;

/** @throws LatchkeyError CONFIG_INVALID for a path that does not fit a socket address */
export function requireSocketPath(socketPath: string): void {
  const path = Buffer.from(socketPath);
  if (path.length > MAX_SOCKET_PATH_BYTES || !socketPath.startsWith('/') || path.includes(0)) {
    throw new LatchkeyError('CONFIG_INVALID', `not usable as a socket path: ${socketPath}`, {
      hint: `choose an absolute path of at most ${MAX_SOCKET_PATH_BYTES} bytes`,
    });
  }
}

/** The line for a processor that nobody answers. */
export function unansweredMessage(socketPath: string): string {
  return `latchkey: NET_UNREACHABLE: the node agent does not answer at ${socketPath}; start it with 'latchkey node run'`;
}
