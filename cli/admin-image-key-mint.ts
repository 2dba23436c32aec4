/** Image keys that stay in the key server, over its admin API. */
import { LatchkeyError } from '#src/base/errors.ts';
import { encodeBase64 } from '#src/crypto/base64.ts';
import type { ImageKeyMint } from '#src/image/minted-image-key.ts';
import type { AdminClient } from './admin-client.ts';

/** A mint for image keys of one product. */
export function createAdminImageKeyMint(client: AdminClient, productCode: string): ImageKeyMint {
  return {
    mint: async () => (await client.mintImageKey(productCode)).id,
    wrap: async (imageKeyId, sources) => {
      const items = sources.map((source) =>
        source.kind === 'sealed'
          ? { sealedOptions: source.sealedOptions }
          : { element: encodeBase64(source.element), imageDigest: source.imageDigest },
      );
      const { elements } = await client.wrapElements(imageKeyId, { items }).catch((error: unknown) => {
        throw explained(error, productCode);
      });
      return elements.map(({ element, sourceDiffId }) => ({
        element: Buffer.from(element, 'base64'),
        sourceDiffId: sourceDiffId ?? undefined,
      }));
    },
  };
}

/** The key server does not say whose the layers are; the user knows what was asked. */
function explained(error: unknown, productCode: string): unknown {
  if (!(error instanceof LatchkeyError) || error.code !== 'STATE_NOT_FOUND') return error;
  return new LatchkeyError(error.code, error.message, {
    hint: `the earlier image must be a published release of ${productCode} on this key server, pulled unchanged`,
    cause: error,
  });
}
