/**
 * The payload that clients send with a layer: a protobuf Any around the JSON of imgcrypt's payload type. Only a
 * hint: which layer it is. Keys that a client may put into it are not looked at.
 */
import * as z from 'zod';
import { parseJson } from '#src/base/json.ts';
import { type Digest, isDigest } from '#src/oci/digest.ts';
import { Any } from '#src/wire/generated/google/protobuf/any.ts';

const PAYLOAD_TYPE = 'io.containerd.ocicrypt.v1.Payload';

const payloadSchema = z.object({
  Descriptor: z.object({ digest: z.string().refine(isDigest, 'not a sha256 digest') }),
});

/** @returns the layer's digest; undefined when the payload does not say it in the form we know */
export function payloadLayerDigest(payload: Uint8Array): Digest | undefined {
  try {
    const any = Any.decode(payload);
    // Newer protobuf runtimes may put a "types/" prefix before the name.
    if (any.typeUrl !== PAYLOAD_TYPE && !any.typeUrl.endsWith(`/${PAYLOAD_TYPE}`)) return undefined;
    return payloadSchema.safeParse(parseJson(any.value, 'the payload')).data?.Descriptor.digest;
  } catch (error) {
    if (error instanceof Error) return undefined;
    throw error;
  }
}
