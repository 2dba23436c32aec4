/** What the agent's main thread and its worker threads say to each other. File descriptors are the process's. */
import type { LayerKey } from '#src/crypto/layer-cipher.ts';
import type { ErrorCode } from '#src/base/errors.ts';
import type { ProgressCells } from './layer-progress.ts';

export type DecryptJob =
  | { readonly kind: 'head'; readonly input: number; readonly progress: ProgressCells }
  | {
      readonly kind: 'decrypt';
      readonly input: number;
      readonly output: number;
      readonly head: Uint8Array;
      readonly key: LayerKey;
      readonly mac: Uint8Array;
      readonly progress: ProgressCells;
    };

export type DecryptResult =
  | { readonly kind: 'head'; readonly head: Uint8Array }
  | { readonly kind: 'decrypted'; readonly sizeBytes: number }
  | { readonly kind: 'failed'; readonly code: ErrorCode; readonly message: string };
