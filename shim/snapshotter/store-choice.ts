/** The plaintext store that the agent's settings ask for. */
import type { LatchkeyError } from '#src/base/errors.ts';
import { compressedStore } from './compressed-store.ts';
import { encryptedVolume, removeVolume } from './encrypted-volume.ts';
import { memoryStore } from './memory-store.ts';
import { unmountAll } from './mount-table.ts';
import type { PlaintextStore, PlaintextStoreKind } from './plaintext-store.ts';

export interface StoreSettings {
  readonly kind: PlaintextStoreKind;
  readonly directory: string;
  /** Of the stores in memory: bytes with k, m, g, or a share of memory. */
  readonly memoryCapacity: string;
  /** Of the encrypted volume. */
  readonly volumeCapacityBytes: number;
  readonly volumeFile: string;
}

/** @param onPackFailed told of a layer that stays unpacked because it could not be packed */
export function choosePlaintextStore(
  settings: StoreSettings,
  onPackFailed: (error: LatchkeyError) => void,
): PlaintextStore {
  const { kind, directory, memoryCapacity, volumeFile, volumeCapacityBytes } = settings;
  const volume = { directory, file: volumeFile, capacityBytes: volumeCapacityBytes };
  switch (kind) {
    case 'memory':
      return afterVolume(memoryStore(directory, memoryCapacity), volume);
    case 'compressed-memory':
      return afterVolume(compressedStore(directory, memoryCapacity, onPackFailed), volume);
    case 'encrypted-volume':
      return encryptedVolume(volume);
  }
}

/** Takes the store away, of whatever kind it is, with everything in it. */
export async function removePlaintextStore({
  directory,
  volumeFile,
}: Pick<StoreSettings, 'directory' | 'volumeFile'>): Promise<void> {
  await removeVolume({ directory, file: volumeFile });
  await unmountAll(directory);
}

/** A store in memory on a node that may have had an encrypted volume before. */
function afterVolume(store: PlaintextStore, volume: Parameters<typeof removeVolume>[0]): PlaintextStore {
  return {
    ...store,
    open: async () => {
      await removeVolume(volume);
      return store.open();
    },
  };
}
