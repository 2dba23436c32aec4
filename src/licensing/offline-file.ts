/** The files that go between a key server and nodes without a line. */
import type * as z from 'zod';
import { LatchkeyError } from '#src/base/errors.ts';
import { parseJson } from '#src/base/json.ts';

/**
 * Reads one; who has signed what is in it is another question.
 * @param what the file's name, for messages
 * @param kind what it should be: `an offline bundle`
 * @param command that writes such a file
 * @throws LatchkeyError INPUT_MALFORMED
 */
export function readOfflineFile<Content>(
  bytes: Uint8Array,
  schema: z.ZodType<Content>,
  { what, kind, command }: { readonly what: string; readonly kind: string; readonly command: string },
): Content {
  try {
    return schema.parse(parseJson(bytes, what));
  } catch (error) {
    throw new LatchkeyError('INPUT_MALFORMED', `${what} is not ${kind}`, {
      hint: `give the file that \`${command}\` has written, as it is`,
      cause: error,
    });
  }
}
