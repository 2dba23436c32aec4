/**
 * Ends connections over which nothing comes any more. gRPC asks the other end whether it is there, but then waits for what is
 * still to be written before it closes; and Node.js 24 never learns of a reset that meets a session in the middle of a
 * write. So strangers could leave connections behind that nothing ended.
 */
import type { TLSSocket } from 'node:tls';

/** @param silentMs longer than whoever is there takes to answer the next time that he is asked */
export function endWhenSilent(socket: TLSSocket, silentMs: number): void {
  let heardBytes = socket.bytesRead;
  const watch = setInterval(() => {
    if (socket.bytesRead === heardBytes) socket.destroy();
    heardBytes = socket.bytesRead;
  }, silentMs);
  watch.unref();
  socket.once('close', () => {
    clearInterval(watch);
  });
}
