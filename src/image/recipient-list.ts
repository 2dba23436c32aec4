/** The recipients of every encrypted layer, by names that commands take. */
import { listElements } from '#src/keywrap/element-list.ts';
import type { Digest } from '#src/oci/digest.ts';
import { encryptedBlobs } from './encrypted-layers.ts';
import type { ImageGraph } from './image-graph.ts';
import { type LayerRecipient, recipientsOf } from './layer-recipients.ts';

export interface NamedRecipient extends LayerRecipient {
  /** `jwe#1`, or `jwe#1.2` for one of several inside an envelope. */
  readonly name: string;
}

export interface LayerRecipients {
  /** `linux/amd64`; for an encrypted attestation its digest. */
  readonly platform: string;
  readonly position: number;
  readonly digest: Digest;
  readonly recipients: readonly NamedRecipient[];
}

/**
 * Lists the recipients; no key is needed.
 * @throws LatchkeyError INPUT_UNSUPPORTED when nothing is encrypted, INPUT_MALFORMED, LIMIT_EXCEEDED
 */
export async function listRecipients(graph: ImageGraph): Promise<LayerRecipients[]> {
  const layers: LayerRecipients[] = [];
  for (const { where, position, descriptor } of encryptedBlobs(graph)) {
    // One for each element, in the order in which they are numbered.
    const described = await recipientsOf(descriptor.annotations);
    const recipients = listElements(descriptor.annotations).map(({ name, element, isInside }) => {
      const recipient = described[element];
      if (recipient === undefined) throw new TypeError('the two lists differ');
      return isInside ? { ...recipient, name, keys: 1 } : { ...recipient, name };
    });
    layers.push({ platform: where, position, digest: descriptor.digest, recipients });
  }
  return layers;
}
