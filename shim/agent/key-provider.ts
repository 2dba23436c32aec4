/**
 * The node as a key provider for tools that speak ocicrypt's protocol (`keyprovider.KeyProviderService`). Same leases,
 * same decision and same audit as a start; but the protocol names no image, and what the caller does with the layer
 * key afterwards is out of our hands: its plaintext is not kept in memory and its starts are not gated.
 */
import type { UntypedServiceImplementation } from '@grpc/grpc-js';
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import { parseElement } from '#src/keywrap/latchkey-element.ts';
import { createLatchkeyUnwrapper } from '#src/keywrap/latchkey.ts';
import { formatUnwrapAnswer, parseProviderRequest } from '#src/keywrap/provider-protocol.ts';
import { unaryHandler } from '#src/wire/unary.ts';
import type { LeaseKeeper } from './lease-keeper.ts';
import { ANY_IMAGE } from './lease.ts';

/** The provider's name in annotations, and so in the configuration of every tool. */
const PROVIDER_NAME = 'latchkey';

/** What one call came to, for the agent's log. */
export type KeyProviderEvent =
  | { readonly imageKeyId: string; readonly licenseId: string; readonly leaseId: string }
  | { readonly error: LatchkeyError };

/** Handlers for the service; they take and give documents. */
export function keyProviderHandlers(
  leases: Pick<LeaseKeeper, 'require'>,
  onCall: (event: KeyProviderEvent) => void,
): UntypedServiceImplementation {
  const handler = unaryHandler<Uint8Array, Uint8Array>(
    (document) => unwrap(leases, document, onCall),
    (error) => {
      onCall({ error: toLatchkeyError(error) });
    },
  );
  // Which method is called says nothing that the document does not.
  return { wrapKey: handler, unWrapKey: handler };
}

async function unwrap(
  leases: Pick<LeaseKeeper, 'require'>,
  document: Uint8Array,
  onCall: (event: KeyProviderEvent) => void,
): Promise<Uint8Array> {
  const request = parseProviderRequest(document, PROVIDER_NAME);
  if (request.operation === 'wrap') {
    throw new LatchkeyError('INPUT_UNSUPPORTED', 'a node opens layer keys and does not wrap them', {
      hint: "to encrypt, configure the provider's cmd: latchkey keyprovider",
    });
  }
  const { imageKeyId, contact } = parseElement(request.element).header;
  const lease = await leases.require({ imageDigest: ANY_IMAGE, imageKeyId }, contact);
  const privateOptions = await createLatchkeyUnwrapper(imageKeyId, lease.imageKey).unwrap(request.element);
  if (privateOptions === null) throw new TypeError('the element is of the key it names');
  onCall({ imageKeyId, licenseId: lease.claims.licenseId, leaseId: lease.claims.leaseId });
  return formatUnwrapAnswer(privateOptions);
}
