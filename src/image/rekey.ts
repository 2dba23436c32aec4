/** A layer under a new key: the same plaintext, salt and diff ID, other ciphertext. Whoever kept the old key is locked out. */
import { rm } from 'node:fs/promises';
import { LayerDecryptor, generateLayerKey } from '#src/crypto/layer-cipher.ts';
import { formatPrivateOptions, parsePrivateOptions } from '#src/crypto/layer-options.ts';
import { publicOptionsOf, withoutEncryption, wrapLayerKey } from '#src/keywrap/annotations.ts';
import type { KeyWrapper } from '#src/keywrap/key-wrapper.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import { digestFromHex } from '#src/oci/digest.ts';
import type { BlobSource, TransferOptions } from '#src/store/blob-store.ts';
import type { StagedStore } from './encrypt-layer.ts';
import type { EncryptedBlob } from './encrypted-layers.ts';
import type { HashThread } from './hash-thread.ts';
import { passLayer } from './layer-pass.ts';

export interface RekeyRequest extends TransferOptions {
  readonly source: BlobSource;
  readonly destination: StagedStore;
  readonly blob: EncryptedBlob;
  /** As the old key wraps them. */
  readonly privateOptions: Uint8Array;
  readonly wrappers: readonly KeyWrapper[];
  readonly thread: () => HashThread;
}

/**
 * Encrypts a blob again; its plaintext is never stored.
 * @throws LatchkeyError CRYPTO_AUTHENTICATION_FAILED when the old ciphertext is not authentic, INPUT_*, STORAGE_*,
 *   INTERRUPTED, and what the source raises
 */
export async function rekeyBlob(request: RekeyRequest): Promise<Descriptor> {
  const { source, destination, signal, onBytes, thread } = request;
  const { descriptor, diffId } = request.blob;
  const old = parsePrivateOptions(request.privateOptions);
  const { mac: oldMac } = publicOptionsOf(descriptor.annotations);
  const key = generateLayerKey();
  const path = await destination.staging.newFile();
  const result = await passLayer({
    direction: 'encrypt',
    source: decryptingSource(source, () => new LayerDecryptor(old, { mac: oldMac })),
    descriptor,
    key,
    contentCompression: 'none',
    tailBytes: 0,
    path,
    thread,
    signal,
    onBytes,
  });
  try {
    const privateOptions = formatPrivateOptions({
      ...key,
      plainDigest: old.plainDigest ?? diffId,
      sourceDiffId: old.sourceDiffId,
    });
    const annotations = await wrapLayerKey(privateOptions, { mac: result.mac }, request.wrappers);
    const rekeyed: Descriptor = {
      ...descriptor,
      digest: digestFromHex(result.ciphertextSha256),
      size: result.sizeBytes,
      annotations: { ...withoutEncryption(descriptor.annotations), ...annotations },
      urls: undefined,
      data: undefined,
    };
    await destination.staging.adopt(rekeyed, path);
    return rekeyed;
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  } finally {
    key.symmetricKey.fill(0);
    old.symmetricKey.fill(0);
  }
}

/** The source with its blobs decrypted; a stream that is not authentic fails at its end, before anybody keeps it. */
function decryptingSource(source: BlobSource, decryptor: () => LayerDecryptor): BlobSource {
  return {
    location: source.location,
    readManifest: (...args) => source.readManifest(...args),
    listReferrers: (...args) => source.listReferrers(...args),
    openBlob: (descriptor, options) => decrypted(source.openBlob(descriptor, options), decryptor()),
  };
}

async function* decrypted(
  ciphertext: AsyncIterable<Uint8Array>,
  decryptor: LayerDecryptor,
): AsyncGenerator<Uint8Array> {
  for await (const chunk of ciphertext) yield decryptor.update(chunk);
  decryptor.verify();
}
