/** The setting `node_key`: where the node key lies. */
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import { parsePkcs11Uri } from '#src/keywrap/pkcs11-uri.ts';
import type { TokenKeyUri } from './token-key.ts';

/**
 * Reads the URI of a key on a token. The PIN comes from a file: the configuration is no place for secrets.
 * @param path of the configuration, for messages
 * @throws LatchkeyError CONFIG_INVALID
 */
export function parseNodeKeySetting(uri: string, path: string): TokenKeyUri {
  let parsed;
  try {
    parsed = parsePkcs11Uri(uri);
  } catch (error) {
    const { message, hint } = toLatchkeyError(error);
    throw new LatchkeyError('CONFIG_INVALID', `${path}: node_key: ${message}`, { hint, cause: error });
  }
  const { object, pinSource, pinValue } = parsed;
  if (object === undefined || pinSource === undefined || pinValue !== undefined) {
    throw new LatchkeyError('CONFIG_INVALID', `${path}: node_key needs object= and pin-source=, and no PIN`, {
      hint: 'like pkcs11:token=LABEL;object=KEY?module-name=softhsm2&pin-source=file:/etc/latchkey/pin',
    });
  }
  return { ...parsed, object, pinSource };
}
