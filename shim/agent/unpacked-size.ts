/**
 * How large an encrypted gzip layer will be, before any of it is unpacked. gzip ends with the size of what went into it
 * (RFC 1952, section 2.3.1), and counter mode can be decrypted from any place on. Nothing here has been authenticated:
 * it is good for refusing early, and for nothing else.
 */
import { LAYER_SALT_BYTES } from '#src/base/limits.ts';
import { type LayerKey, createLayerDecipher } from '#src/crypto/layer-cipher.ts';

const AES_BLOCK_BYTES = 16;
const SIZE_BYTES = 4;
/** Salt is stored as it is: header, head of one stored block, the bytes, checksum and size. */
const SALT_MEMBER_BYTES = 10 + 5 + LAYER_SALT_BYTES + 8;

/** No gzip file unpacks to more than this many times its size (zlib.net, "Maximum Compression Factor"). */
export const MAX_DEFLATE_RATIO = 1032;

/** As much of the layer's end as is needed. */
export const GZIP_TAIL_BYTES = SALT_MEMBER_BYTES + SIZE_BYTES;

/**
 * Pure: the size that the last member names, or the one before it when the last is our salt. Of a file of many members
 * that is less than all of it, and above 4 GiB the remainder.
 * @param tail last bytes of the compressed layer
 */
export function gzipUnpackedSize(tail: Uint8Array): number {
  const bytes = Buffer.from(tail);
  const sizeAt = (fromEnd: number): number =>
    bytes.length < fromEnd ? 0 : bytes.readUInt32LE(bytes.length - fromEnd);
  const isSalted = sizeAt(SIZE_BYTES) === LAYER_SALT_BYTES && isGzip(bytes.subarray(-SALT_MEMBER_BYTES));
  return isSalted ? sizeAt(SALT_MEMBER_BYTES + SIZE_BYTES) : sizeAt(SIZE_BYTES);
}

function isGzip(member: Uint8Array): boolean {
  return member[0] === 0x1f && member[1] === 0x8b;
}

/** Decrypts a part of a layer. @param offset of the first byte, from the layer's begin */
export function decryptPart(key: LayerKey, offset: number, ciphertext: Uint8Array): Buffer {
  const skipped = offset % AES_BLOCK_BYTES;
  const counter = advanced(key.nonce, Math.floor(offset / AES_BLOCK_BYTES));
  const decipher = createLayerDecipher({ symmetricKey: key.symmetricKey, nonce: counter });
  decipher.update(new Uint8Array(skipped));
  return decipher.update(ciphertext);
}

function advanced(nonce: Uint8Array, blocks: number): Buffer {
  const sum = (BigInt(`0x${Buffer.from(nonce).toString('hex')}`) + BigInt(blocks)) % 2n ** 128n;
  return Buffer.from(sum.toString(16).padStart(2 * AES_BLOCK_BYTES, '0'), 'hex');
}
