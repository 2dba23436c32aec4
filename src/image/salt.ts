/**
 * Salt: random bytes after a layer's end marker. Chain IDs are shared between images on a node, so without salt a
 * plain twin of a layer would unlock the encrypted one, and the public diff ID would confirm a guess of its content.
 * Tar readers stop at the end marker; whoever computes a diff ID reads on.
 */
import { randomBytes } from 'node:crypto';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { LAYER_SALT_BYTES } from '#src/base/limits.ts';
import type { Compression } from '#src/oci/media-types.ts';

export interface LayerSalt {
  /** What is appended to the layer as it is stored. */
  readonly stored: Uint8Array;
  /** What that adds to the uncompressed layer. */
  readonly uncompressed: Uint8Array;
}

/**
 * Makes salt for a layer: raw bytes for a tar, one more member (RFC 1952, section 2.2) for a gzip, one more frame
 * (RFC 8878, section 3) for a zstd.
 * @param random gives that many random bytes
 */
export function createSalt(
  compression: Compression,
  random: (sizeBytes: number) => Uint8Array = randomBytes,
): LayerSalt {
  const uncompressed = random(LAYER_SALT_BYTES);
  return { stored: pack(uncompressed, compression), uncompressed };
}

/** Random bytes do not compress: both formats store them as they are. */
function pack(bytes: Uint8Array, compression: Compression): Uint8Array {
  switch (compression) {
    case 'none':
      return bytes;
    case 'gzip':
      return gzipSync(bytes, { level: 0 });
    case 'zstd':
      return zstdCompressSync(bytes);
  }
}
