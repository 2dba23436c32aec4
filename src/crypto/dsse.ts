/**
 * Signed envelopes after DSSE v1 (secure-systems-lab/dsse, protocol.md and envelope.md): a payload, its type, and
 * signatures over both. Unlike JWS nothing in the envelope says how to verify it, so a forger cannot choose the
 * algorithm: it follows from the key. Ed25519, and ECDSA on P-256 with SHA-256, written in DER as cosign does.
 */
import { type KeyObject, sign, verify } from 'node:crypto';
import * as z from 'zod';
import { LatchkeyError } from '#src/base/errors.ts';
import { parseJson } from '#src/base/json.ts';
import {
  MAX_STATEMENT_BYTES,
  MAX_STATEMENT_ENVELOPE_BYTES,
  MAX_STATEMENT_SIGNATURES,
} from '#src/base/limits.ts';
import { decodeBase64, encodeBase64 } from './base64.ts';
import { keyThumbprint, requireSigningKey } from './signing-key.ts';

export interface DsseSignature {
  /** A hint only: it is not signed. */
  readonly keyId?: string | undefined;
  readonly signature: Uint8Array;
}

export interface DsseEnvelope {
  readonly payloadType: string;
  readonly payload: Uint8Array;
  readonly signatures: readonly DsseSignature[];
}

const MAX_TYPE_CHARACTERS = 256;
/** Longer than any signature of the keys we take; RSA-4096 signatures of others still parse. */
const MAX_SIGNATURE_CHARACTERS = 1024;
const RAW_P256_SIGNATURE_BYTES = 64;

/** Fields we do not know are allowed: signers may add certificates. */
const envelopeSchema = z.looseObject({
  payloadType: z.string().min(1).max(MAX_TYPE_CHARACTERS),
  payload: z.string().max(MAX_STATEMENT_ENVELOPE_BYTES),
  signatures: z
    .array(
      z.looseObject({
        keyid: z.string().max(MAX_TYPE_CHARACTERS).nullish(),
        sig: z.string().max(MAX_SIGNATURE_CHARACTERS),
      }),
    )
    .max(MAX_STATEMENT_SIGNATURES),
});

/**
 * Parses an envelope; its signatures are not checked.
 * @throws LatchkeyError INPUT_MALFORMED, LIMIT_EXCEEDED
 */
export function parseDsseEnvelope(bytes: Uint8Array): DsseEnvelope {
  if (bytes.length > MAX_STATEMENT_ENVELOPE_BYTES) {
    throw new LatchkeyError(
      'LIMIT_EXCEEDED',
      `the signed statement is larger than ${MAX_STATEMENT_ENVELOPE_BYTES} bytes`,
    );
  }
  const envelope = envelopeSchema.safeParse(parseJson(bytes, 'the signed statement')).data;
  if (envelope === undefined) throw malformed('it is not a DSSE envelope');
  const payload = decodeEither(envelope.payload);
  if (payload.length > MAX_STATEMENT_BYTES) {
    throw new LatchkeyError('LIMIT_EXCEEDED', `the statement is larger than ${MAX_STATEMENT_BYTES} bytes`);
  }
  return {
    payloadType: envelope.payloadType,
    payload,
    signatures: envelope.signatures.map(({ keyid, sig }) => ({
      keyId: keyid ?? undefined,
      signature: decodeEither(sig),
    })),
  };
}

/** Writes an envelope as JSON. */
export function encodeDsseEnvelope(envelope: DsseEnvelope): Uint8Array {
  return Buffer.from(
    JSON.stringify({
      payloadType: envelope.payloadType,
      payload: encodeBase64(envelope.payload),
      signatures: envelope.signatures.map(({ keyId, signature }) => ({
        ...(keyId === undefined ? {} : { keyid: keyId }),
        sig: encodeBase64(signature),
      })),
    }),
  );
}

/**
 * Adds a signature; one by the same key is replaced.
 * @throws LatchkeyError KEY_INVALID for a key that does not sign envelopes, LIMIT_EXCEEDED
 */
export function signDsseEnvelope(envelope: DsseEnvelope, privateKey: KeyObject): DsseEnvelope {
  const keyId = keyThumbprint(privateKey);
  const signature = sign(digestNameOf(privateKey), preAuthenticationEncoding(envelope), privateKey);
  const others = envelope.signatures.filter((other) => other.keyId !== keyId);
  if (others.length >= MAX_STATEMENT_SIGNATURES) {
    throw new LatchkeyError(
      'LIMIT_EXCEEDED',
      `the signed statement has ${others.length} signatures already, and one more could not be read`,
    );
  }
  return { ...envelope, signatures: [...others, { keyId, signature }] };
}

/**
 * The first of the keys that has signed the envelope; undefined when none has. Every signature is tried, whatever
 * key it names.
 * @throws LatchkeyError KEY_INVALID for a key that does not sign envelopes
 */
export function verifyDsseEnvelope(
  envelope: DsseEnvelope,
  publicKeys: readonly KeyObject[],
): KeyObject | undefined {
  const signed = preAuthenticationEncoding(envelope);
  return publicKeys.find((key) =>
    envelope.signatures.some(({ signature }) => isSignedBy(signed, signature, key)),
  );
}

function isSignedBy(signed: Uint8Array, signature: Uint8Array, key: KeyObject): boolean {
  const digestName = digestNameOf(key);
  if (verify(digestName, signed, key, signature)) return true;
  // The reference implementation writes r and s of an ECDSA signature side by side.
  const isRaw = digestName !== null && signature.length === RAW_P256_SIGNATURE_BYTES;
  return isRaw && verify(digestName, signed, { key, dsaEncoding: 'ieee-p1363' }, signature);
}

/** Node's name of the digest to sign; Ed25519 has its own inside (RFC 8032). */
function digestNameOf(key: KeyObject): string | null {
  return requireSigningKey(key, 'the key').asymmetricKeyType === 'ed25519' ? null : 'sha256';
}

/** DSSE protocol.md, PAE: lengths before contents, so that no two pairs of type and payload look the same. */
function preAuthenticationEncoding({ payloadType, payload }: DsseEnvelope): Buffer {
  const type = Buffer.from(payloadType);
  const head = `DSSEv1 ${type.length} ${payloadType} ${payload.length} `;
  return Buffer.concat([Buffer.from(head), payload]);
}

/** Either alphabet is allowed (envelope.md), each read strictly. */
function decodeEither(text: string): Buffer {
  const standard = decodeBase64(text);
  if (standard !== undefined) return standard;
  const bytes = Buffer.from(text, 'base64url');
  if (bytes.toString('base64url') !== text.replace(/={1,2}$/, '')) throw malformed('it is not base64');
  return bytes;
}

function malformed(reason: string): LatchkeyError {
  return new LatchkeyError('INPUT_MALFORMED', `the signed statement is malformed: ${reason}`);
}
