/** Who reads a backup and takes nothing of it any more would keep the next one waiting, and the database on old rows, for ever. */
import type { Writable } from 'node:stream';
import { LatchkeyError } from '#src/base/errors.ts';

/**
 * Passes chunks on, and ends the stream they go to with NET_TIMEOUT when it takes nothing for so long. Time in which there
 * is nothing to take does not count.
 * @param to the end of the pipeline that this is a part of
 */
export async function* takenInTime(
  chunks: AsyncIterable<Uint8Array>,
  to: Writable,
  patienceMs: number,
): AsyncGenerator<Uint8Array, void, undefined> {
  const wait = () => setTimeout(() => to.destroy(stalled(patienceMs)), patienceMs);
  for await (const chunk of chunks) {
    const waiting = wait();
    try {
      yield chunk;
    } finally {
      clearTimeout(waiting);
    }
  }
  const waiting = wait();
  for (const end of ['finish', 'close']) {
    to.once(end, () => {
      clearTimeout(waiting);
    });
  }
}

function stalled(patienceMs: number): LatchkeyError {
  return new LatchkeyError('NET_TIMEOUT', `nobody took anything of the backup for ${patienceMs / 1000} s`, {
    hint: 'make it again, and look why the other end stood still',
  });
}
