/** What opens the root key, as the command line hands it over: on standard input, where nobody else can read it. */
import { readBounded } from '#src/base/bounded-file.ts';
import { LatchkeyError } from '#src/base/errors.ts';
import { parseJson } from '#src/base/json.ts';
import { rootKeyProofSchema } from '#src/wire/admin/seal.ts';
import type { RootKeySlot } from './custody/root-key-slot.ts';
import type { RootKeyTokenUri } from './custody/root-key-token.ts';
import { openProvenRootKey } from './domain/root-key-slots.ts';
import { MAX_ADMIN_BODY_BYTES } from './limits.ts';
import { openByToken } from './made-token-slot.ts';

/**
 * Opens the root key with a root key or shares on the input; with a token when there is nothing on it.
 * @throws LatchkeyError KEY_INVALID when that opens nothing, and what the token fails with
 */
export async function openGivenRootKey(
  input: AsyncIterable<Buffer>,
  token: RootKeyTokenUri | null,
  organizationId: string,
  slots: readonly RootKeySlot[],
): Promise<Uint8Array> {
  const bytes = (await readBounded(input, MAX_ADMIN_BODY_BYTES)) ?? Buffer.alloc(0);
  if (bytes.length === 0 && token !== null) return openByToken(organizationId, slots, token);
  const { data, error } = rootKeyProofSchema.safeParse(parseJson(bytes, 'what opens the root key'));
  if (data !== undefined) return openProvenRootKey(organizationId, slots, data);
  throw new LatchkeyError('KEY_INVALID', 'neither a root key nor shares were given', {
    hint: 'name the root key file with --root-key, give shares, or name a token with --root-key-token',
    cause: error,
  });
}
