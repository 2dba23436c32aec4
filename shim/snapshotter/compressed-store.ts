/** The memory-backed store with its layers compressed: less memory for a little more time at the first start. */
import type { LatchkeyError } from '#src/base/errors.ts';
import { erofsPacker, requirePacking } from './layer-packer.ts';
import { memoryStore } from './memory-store.ts';
import type { PlaintextStore } from './plaintext-store.ts';

/** @param onPackFailed told of a layer that stays unpacked because it could not be packed */
export function compressedStore(
  directory: string,
  capacity: string,
  onPackFailed: (error: LatchkeyError) => void,
): PlaintextStore {
  const memory = memoryStore(directory, capacity);
  return {
    ...memory,
    kind: 'compressed-memory',
    packer: erofsPacker(onPackFailed),
    open: async () => {
      const opened = await memory.open();
      await requirePacking(directory);
      return opened;
    },
  };
}
