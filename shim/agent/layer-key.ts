/** A layer key out of its wrapping, under a lease. */
import type { LayerKey } from '#src/crypto/layer-cipher.ts';
import { parsePrivateOptions, parsePublicOptions } from '#src/crypto/layer-options.ts';
import { openElement, parseElement } from '#src/keywrap/latchkey-element.ts';
import type { SnapshotGateRecord } from '../snapshotter/snapshot.ts';
import type { HeldLease } from './held-lease.ts';

export interface OpenedLayer {
  readonly key: LayerKey;
  /** The layer's MAC, from its public options. */
  readonly mac: Uint8Array;
}

/**
 * Opens the layer key of a record with the image key of its lease.
 * @throws LatchkeyError CRYPTO_AUTHENTICATION_FAILED, INPUT_MALFORMED
 */
export function openLayerKey(gate: SnapshotGateRecord, lease: HeldLease): OpenedLayer {
  const element = parseElement(Buffer.from(gate.element, 'base64'));
  const { symmetricKey, nonce } = parsePrivateOptions(openElement(element, lease.imageKey));
  const { mac } = parsePublicOptions(Buffer.from(gate.publicOptions, 'base64'));
  return { key: { symmetricKey, nonce }, mac };
}
