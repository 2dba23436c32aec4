/** Verifies what sign-token.ts has signed: a token with a signature of its own, or one that shares it with others. */
import type { KeyObject } from 'node:crypto';
import { compactVerify } from 'jose';
import * as z from 'zod';
import { parseJson } from '#src/base/json.ts';
import { PAYLOAD_SEPARATOR, payloadHash } from './sign-token.ts';

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
  const { payload, protectedHeader } = await compactVerify(signed, key, { algorithms: ['EdDSA', 'Ed25519'] });
  if (protectedHeader.typ !== (shared === undefined ? type : listType)) {
    throw new TypeError('the token is of another type');
  }
  if (shared === undefined) return payload;
  const { payloads } = listSchema.parse(parseJson(payload, 'the list of a token'));
  if (more.length > 0 || !payloads.includes(payloadHash(shared))) {
    throw new TypeError('the token holds what was not signed');
  }
  return Buffer.from(shared, 'base64url');
}
