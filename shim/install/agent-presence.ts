/** Whether an agent runs, and what holds where it has no configuration. */
import { createConnection } from 'node:net';

/** For its directories only: without a configuration the defaults count. */
export const DEFAULT_SETTINGS = 'key_server = "none:1"\nenrollment = "none:1"\nauthority_file = ""\n';

/** True when somebody accepts connections on the socket; a file that is left over does not. */
export function agentAnswers(socketPath: string): Promise<boolean> {
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
