/** What is said when a key provider does not do its work. */
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_PROVIDER_REASON_CHARACTERS } from '#src/base/limits.ts';
import { encodeBase64 } from '#src/crypto/base64.ts';
import { parsePrivateOptions } from '#src/crypto/layer-options.ts';

/**
 * A failure of a provider.
 * @param name the provider's
 * @param reason what happened, such as `ended with status 1`
 * @param said the provider's own words; shown as one escaped line
 * @param secret private options that it was given and may repeat; they are not shown
 */
export function providerFailed(
  name: string,
  reason: string,
  details: {
    readonly said?: string;
    readonly secret?: Uint8Array | undefined;
    readonly cause?: unknown;
  } = {},
): LatchkeyError {
  const said = quote(withoutSecret(details.said ?? '', details.secret));
  return new LatchkeyError(
    'KEY_PROVIDER_FAILED',
    `key provider ${name} ${reason}${said === '' ? '' : `: ${said}`}`,
    { cause: details.cause },
  );
}

/** Control characters as JSON writes them, so that a provider cannot steer the terminal or forge a second line. */
function quote(text: string): string {
  const trimmed = text.trim();
  if (trimmed === '') return '';
  const isLong = trimmed.length > MAX_PROVIDER_REASON_CHARACTERS;
  const shown = isLong ? `${trimmed.slice(0, MAX_PROVIDER_REASON_CHARACTERS)}...` : trimmed;
  return JSON.stringify(shown).replaceAll(/[\p{Cc}\u2028\u2029]/gu, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}

/** Providers like to repeat the request they could not read, and messages end up in build logs. */
function withoutSecret(text: string, secret: Uint8Array | undefined): string {
  if (secret === undefined) return text;
  const { symmetricKey } = parsePrivateOptions(secret);
  const spellings = [Buffer.from(secret).toString(), ...spellingsOf(secret), ...spellingsOf(symmetricKey)];
  return spellings.reduce((shown, spelling) => shown.replaceAll(spelling, '(layer key)'), text);
}

/** As programs print bytes: base64 of both alphabets, hex, and the lists of numbers of Rust, JSON and Go. */
function spellingsOf(bytes: Uint8Array): string[] {
  const hex = Buffer.from(bytes).toString('hex');
  const numbers = [', ', ',', ' '].map((separator) => [...bytes].join(separator));
  const base64Url = Buffer.from(bytes).toString('base64url');
  return [encodeBase64(bytes), base64Url, hex, hex.toUpperCase(), ...numbers];
}
