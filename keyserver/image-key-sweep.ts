/** Destroys image keys on their day, at start and from then on while the server runs. */
import type { Logger } from 'pino';
import { toLatchkeyError } from '#src/base/errors.ts';
import { destroyDueImageKeys } from './domain/image-key-destruction.ts';
import type { KeyServer } from './domain/key-server.ts';
import { IMAGE_KEY_SWEEP_INTERVAL_MS } from './limits.ts';

/**
 * Starts it. What fails is logged and tried again: a full disk keeps no server from starting.
 * @returns a function that ends it and waits for what is under way
 */
export async function startImageKeySweep(server: KeyServer, logger: Logger): Promise<() => Promise<void>> {
  const sweep = async () => {
    try {
      const destroyed = await destroyDueImageKeys(server);
      if (destroyed > 0) logger.info({ destroyed }, 'image keys destroyed');
    } catch (error) {
      const { code, message } = toLatchkeyError(error);
      logger.error({ code, cause: message }, 'image keys that are due were not destroyed');
    }
  };
  await sweep();
  let running = Promise.resolve();
  const timer = setInterval(() => {
    running = running.then(sweep);
  }, IMAGE_KEY_SWEEP_INTERVAL_MS);
  timer.unref();
  return () => {
    clearInterval(timer);
    return running;
  };
}
