/** Compact JWS over Ed25519 (RFC 7515, RFC 8037). Over node:crypto and synchronous for the reasons of seal-key.ts. */
import { type KeyObject, hash, sign } from 'node:crypto';

/** Between a list and the payloads that it signs; in no compact JWS. */
export const PAYLOAD_SEPARATOR = '~';

/**
 * Signs a payload; any JOSE library verifies it as `EdDSA`.
 * @param payload JSON
 */
export function signToken(type: string, payload: string, privateKey: KeyObject): string {
  const signed = `${encode(JSON.stringify({ alg: 'EdDSA', typ: type }))}.${encode(payload)}`;
  const signature = sign(null, Buffer.from(signed), privateKey);
  return `${signed}.${signature.toString('base64url')}`;
}

/**
 * Signs payloads with one signature, which costs more than everything else that is done for a token (measured): a token
 * whose payload lists their hashes, and behind it the payloads, as an SD-JWT has its disclosures (RFC 9901, section 4).
 * `tokensOf` in open-token.ts gives each of them a token that stands for itself.
 * @param listType of the token that lists them
 * @param payloads JSON
 */
export function signTogether(listType: string, payloads: readonly string[], privateKey: KeyObject): string {
  const encoded = payloads.map(encode);
  const list = signToken(listType, JSON.stringify({ payloads: encoded.map(payloadHash) }), privateKey);
  return [list, ...encoded].join(PAYLOAD_SEPARATOR);
}

/** SHA-256 of a payload as it is written in the token, base64url. */
export function payloadHash(encoded: string): string {
  return hash('sha256', encoded, 'base64url');
}

function encode(json: string): string {
  return Buffer.from(json).toString('base64url');
}
