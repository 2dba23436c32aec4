/** Compact JWS over Ed25519 (RFC 7515, RFC 8037). Over node:crypto for the same reason as seal-key.ts. */
import { type KeyObject, sign as signCallback } from 'node:crypto';
import { promisify } from 'node:util';

const sign = promisify<null, Uint8Array, KeyObject, Buffer>(signCallback);

/** Signs a JSON payload beside the caller's thread; any JOSE library verifies it as `EdDSA`. */
export async function signToken(type: string, payload: unknown, privateKey: KeyObject): Promise<string> {
  const signed = `${encode({ alg: 'EdDSA', typ: type })}.${encode(payload)}`;
  const signature = await sign(null, Buffer.from(signed), privateKey);
  return `${signed}.${signature.toString('base64url')}`;
}

function encode(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}
