/** The vendor's authority, which the operator has put on the machine. */
import { readFile } from 'node:fs/promises';
import { LatchkeyError } from '#src/base/errors.ts';

/** @throws LatchkeyError CONFIG_INVALID */
export function readAuthorityFile(path: string): Promise<string> {
  return readFile(path, 'utf8').catch((error: unknown) => {
    throw new LatchkeyError('CONFIG_INVALID', `the authority file ${path} cannot be read`, {
      hint: 'copy authority.pem from the software vendor to this path',
      cause: error,
    });
  });
}
