/** Verifies what sign-token.ts has signed: a token with a signature of its own, or one that shares it with others. */
import type { KeyObject } from 'node:crypto';
import * as z from 'zod';
import { parseJson } from '#src/base/json.ts';
import { PAYLOAD_SEPARATOR, payloadHash } from './sign-token.ts';
import { ED25519_ALGORITHMS, verifyToken } from './verify-token.ts';

export interface TokenTypes {
  readonly type: string;
  /** Of a list of payloads of this type. */
  readonly listType: string;
}

const listSchema = z.strictObject({ payloads: z.array(z.string()) });

/** The tokens of payloads that were signed together, in their order; each can be kept and verified without the others. */
export function tokensOf(signed: string): string[] {
  const [list = '', ...payloads] = signed.split(PAYLOAD_SEPARATOR);
  return payloads.map((payload) => `${list}${PAYLOAD_SEPARATOR}${payload}`);
}

/**
 * Gives the payload of a token.
 * @throws Error when it is malformed, of another type, or not signed with the key
 */
export async function openToken(
  token: string,
  key: KeyObject,
  { type, listType }: TokenTypes,
): Promise<Uint8Array> {
  const [signed = '', shared, ...more] = token.split(PAYLOAD_SEPARATOR);
  const payload = await verifyToken(signed, {
    key,
    algorithms: ED25519_ALGORITHMS,
    type: shared === undefined ? type : listType,
  });
  if (shared === undefined) return payload;
  const { payloads } = listSchema.parse(parseJson(payload, 'the list of a token'));
  if (more.length > 0 || !payloads.includes(payloadHash(shared))) {
    throw new TypeError('the token holds what was not signed');
  }
  return Buffer.from(shared, 'base64url');
}
