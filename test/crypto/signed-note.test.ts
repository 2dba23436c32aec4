import { generateKeyPairSync } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { openCheckpoint, signCheckpoint } from '#src/crypto/audit-checkpoint.ts';
import { openNote, parseVerifierKey, signNote, verifierKeyText } from '#src/crypto/signed-note.ts';
import { isErrorCode } from '#src/base/errors.ts';

// The example of the package golang.org/x/mod/sumdb/note.
const GO_KEY = 'PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW';
const GO_NOTE =
  'If you think cryptography is the answer to your problem,\n' +
  "then you don't know what your problem is.\n\n" +
  '\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n';

const pair = generateKeyPairSync('ed25519');
const name = 'latchkey-audit/org_a';
const verifier = parseVerifierKey(verifierKeyText(name, pair.publicKey));
const checkpoint = { size: 300, root: Buffer.alloc(32, 7) };

describe('a signed note', () => {
  it('of another implementation opens', () => {
    expect(openNote(GO_NOTE, parseVerifierKey(GO_KEY), 'the note')).toContain('cryptography');
  });

  it('opens with signatures of others beside ours, and not without ours', () => {
    const note = signCheckpoint(name, checkpoint, pair.privateKey);
    expect(openCheckpoint(note, verifier, 'c')).toEqual(checkpoint);
    const witnessed = `${note}\u2014 witness AAAAAAAA\n`;
    expect(openCheckpoint(witnessed, verifier, 'c')).toEqual(checkpoint);
    const other = signCheckpoint(name, checkpoint, generateKeyPairSync('ed25519').privateKey);
    expect(() => openCheckpoint(other, verifier, 'c')).toThrow(/is not signed by/u);
  });

  it('shows any changed character', () => {
    const note = signCheckpoint(name, checkpoint, pair.privateKey);
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: note.length - 1 }),
        fc.constantFrom('x', '0', '\n', ' '),
        (at, by) => {
          const changed = note.slice(0, at) + by + note.slice(at + 1);
          fc.pre(changed !== note);
          expect(() => openCheckpoint(changed, verifier, 'c')).toThrow(
            expect.objectContaining({ name: 'LatchkeyError' }),
          );
        },
      ),
    );
  });

  it('refuses a signature whose last bits are spelled differently', () => {
    const note = signCheckpoint(name, checkpoint, pair.privateKey);
    const last = note.charCodeAt(note.length - 3);
    const changed = `${note.slice(0, -3)}${String.fromCharCode(last + 1)}=\n`;
    expect(() => openCheckpoint(changed, verifier, 'c')).toThrow(/malformed signature line/u);
  });

  it('refuses a signed text that is no checkpoint', () => {
    for (const text of [
      `${name}\n-1\nAAAA\n`,
      `${name}\n01\n${checkpoint.root.toString('base64')}\n`,
      `other\n1\n${checkpoint.root.toString('base64')}\n`,
      '\n',
    ]) {
      const note = signNote(text, name, pair.privateKey);
      expect(() => openCheckpoint(note, verifier, 'c')).toThrow(/is not a checkpoint/u);
    }
  });

  it('and its key refuse strange text with our errors', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        for (const read of [() => parseVerifierKey(text), () => openNote(text, verifier, 'n')]) {
          try {
            read();
            expect.unreachable();
          } catch (error) {
            expect(isErrorCode((error as { code?: unknown }).code)).toBe(true);
          }
        }
      }),
    );
    expect(() => parseVerifierKey(GO_KEY.replace('c74f20a3', 'c74f20a4'))).toThrow(/verifier key/u);
  });
});
