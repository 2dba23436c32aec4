/** Compact JWS over Ed25519 (RFC 7515, RFC 8037). Over node:crypto and synchronous for the reasons of seal-key.ts. */
import { type KeyObject, sign } from 'node:crypto';

/** Signs a JSON payload; any JOSE library verifies it as `EdDSA`. */
export function signToken(type: string, payload: unknown, privateKey: KeyObject): string {
  const signed = `${encode({ alg: 'EdDSA', typ: type })}.${encode(payload)}`;
  const signature = sign(null, Buffer.from(signed), privateKey);
  return `${signed}.${signature.toString('base64url')}`;
}

function encode(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}
