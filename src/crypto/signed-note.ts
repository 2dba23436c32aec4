/** Signed notes (C2SP signed-note) with one Ed25519 signature type: a text, a blank line, signature lines. */
import { type KeyObject, createHash, createPublicKey, sign, verify } from 'node:crypto';
import { LatchkeyError } from '#src/base/errors.ts';

/** A checkpoint has some hundred bytes; with the co-signatures of many witnesses a few thousand. */
export const MAX_NOTE_BYTES = 64 * 1024;

const ED25519 = 1;
const KEY_ID_BYTES = 4;
const SIGNATURE_BYTES = 64;
const PUBLIC_KEY_BYTES = 32;
/** SubjectPublicKeyInfo of Ed25519 up to the key (RFC 8410). */
const SPKI_PREFIX = Buffer.from('302a300506032b6570032100', 'hex');

/** Who signs: the note's verifier key, NAME+ID+KEY. */
export interface NoteVerifier {
  readonly name: string;
  readonly keyId: Buffer;
  readonly publicKey: KeyObject;
}

/** The verifier key as text, as it is handed to others. */
export function verifierKeyText(name: string, publicKey: KeyObject): string {
  const raw = rawPublicKey(publicKey);
  return `${name}+${keyId(name, raw).toString('hex')}+${withType(raw).toString('base64')}`;
}

/**
 * Reads a verifier key.
 * @param what its name, for messages
 * @throws LatchkeyError KEY_INVALID
 */
export function parseVerifierKey(text: string, what = 'this'): NoteVerifier {
  const match = /^([^\s+]{1,256})\+([0-9a-f]{8})\+([A-Za-z0-9+/]{44})$/u.exec(text.trim());
  const [, name = '', id = '', key = ''] = match ?? [];
  const typed = Buffer.from(key, 'base64');
  const raw = typed.subarray(1);
  if (typed[0] !== ED25519 || raw.length !== PUBLIC_KEY_BYTES || keyId(name, raw).toString('hex') !== id) {
    throw new LatchkeyError('KEY_INVALID', `${what} is not the verifier key of an audit log`, {
      hint: 'it is NAME+ID+KEY in one line, as `latchkey audit key` prints it',
    });
  }
  const publicKey = createPublicKey({ key: Buffer.concat([SPKI_PREFIX, raw]), format: 'der', type: 'spki' });
  return { name, keyId: Buffer.from(id, 'hex'), publicKey };
}

/** Signs a text that ends with a newline. */
export function signNote(text: string, name: string, privateKey: KeyObject): string {
  const id = keyId(name, rawPublicKey(createPublicKey(privateKey)));
  const signature = Buffer.concat([id, sign(null, Buffer.from(text), privateKey)]);
  return `${text}\n\u2014 ${name} ${signature.toString('base64')}\n`;
}

/**
 * Gives the text of a note that the verifier's key has signed. Signatures of others are passed over, as the spec wants.
 * @throws LatchkeyError INPUT_MALFORMED, STATE_DAMAGED
 */
export function openNote(note: string, verifier: NoteVerifier, what: string): string {
  const split = note.lastIndexOf('\n\n');
  if (split < 0 || !note.endsWith('\n') || note.length > MAX_NOTE_BYTES) {
    throw new LatchkeyError('INPUT_MALFORMED', `${what} is not a signed note`, {
      hint: 'a checkpoint is what `latchkey audit checkpoint` prints, whole and unchanged',
    });
  }
  const text = note.slice(0, split + 1);
  const lines = note.slice(split + 2, -1).split('\n');
  for (const line of lines) {
    const match = /^\u2014 ([^\s+]+) ([A-Za-z0-9+/]+={0,2})$/u.exec(line);
    const signature = Buffer.from(match?.[2] ?? '', 'base64');
    // Base64 has bits to spare at its end; a note has one spelling only.
    if (signature.toString('base64') !== match?.[2])
      throw new LatchkeyError('INPUT_MALFORMED', `${what} has a malformed signature line`);
    if (match[1] !== verifier.name || !signature.subarray(0, KEY_ID_BYTES).equals(verifier.keyId)) continue;
    const bytes = signature.subarray(KEY_ID_BYTES);
    if (bytes.length === SIGNATURE_BYTES && verify(null, Buffer.from(text), verifier.publicKey, bytes)) {
      return text;
    }
    throw new LatchkeyError('STATE_DAMAGED', `${what} has a wrong signature`, {
      hint: 'somebody changed it, or signed it with another key',
    });
  }
  throw new LatchkeyError('STATE_DAMAGED', `${what} is not signed by ${verifier.name}`, {
    hint: 'give the verifier key of this organization',
  });
}

function withType(raw: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from([ED25519]), raw]);
}

function keyId(name: string, raw: Uint8Array): Buffer {
  return createHash('sha256').update(`${name}\n`).update(withType(raw)).digest().subarray(0, KEY_ID_BYTES);
}

function rawPublicKey(key: KeyObject): Buffer {
  return key.export({ format: 'der', type: 'spki' }).subarray(SPKI_PREFIX.length);
}
