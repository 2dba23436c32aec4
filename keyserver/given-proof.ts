/** What opens the root key, as the command line hands it over: on standard input, where nobody else can read it. */
import { readBounded } from '#src/base/bounded-file.ts';
import { LatchkeyError } from '#src/base/errors.ts';
import { parseJson } from '#src/base/json.ts';
import { type RootKeyProof, rootKeyProofSchema } from '#src/wire/admin/seal.ts';
import { MAX_ADMIN_BODY_BYTES } from './limits.ts';

/** @throws LatchkeyError KEY_INVALID when it is neither a root key nor shares */
export async function readGivenProof(input: AsyncIterable<Buffer>): Promise<RootKeyProof> {
  const bytes = (await readBounded(input, MAX_ADMIN_BODY_BYTES)) ?? Buffer.alloc(0);
  const { data, error } = rootKeyProofSchema.safeParse(parseJson(bytes, 'what opens the root key'));
  if (data !== undefined) return data;
  throw new LatchkeyError('KEY_INVALID', 'neither a root key nor shares were given', {
    hint: 'name the root key file with --root-key, or give shares',
    cause: error,
  });
}
