/** Takes secrets out of text that is about to be logged, by their shape: what a caller sends may end up in any message. */

const SECRET = '[secret]';

/** None of them crosses a quotation mark, so that a line of JSON stays one. */
const SHAPES: readonly (readonly [RegExp, string])[] = [
  // License keys, as they are printed and as people type them.
  [/\bLK(?:[- ]?[0-9A-Z]{6}){6}\b/gi, SECRET],
  // Shares of a root key, and root keys; digests say that they are some.
  [/\bLKS-[0-9A-Z-]{20,}/gi, SECRET],
  [/(?<!sha256:)\b[0-9a-f]{64}\b/g, SECRET],
  // API and join tokens.
  [/\blk[a-z]_[\w-]{16,}/g, SECRET],
  // JOSE in compact form: leases, and image keys that are sealed to somebody.
  [/\beyJ[\w-]*(?:\.[\w-]*){2,4}/g, SECRET],
  [/-----BEGIN [A-Z ]*PRIVATE KEY-----[^"]*?-----END [A-Z ]*PRIVATE KEY-----/g, SECRET],
  // Passwords in URLs, in both of their places.
  [/(\b[a-z][a-z0-9+.-]*:\/\/[^\s:/@"]*:)[^\s/"]*@/gi, `$1${SECRET}@`],
  [/([?&]password=)[^\s&"]+/gi, `$1${SECRET}`],
];

/** Gives the text without what looks like a secret. */
export function redact(text: string): string {
  return SHAPES.reduce((redacted, [shape, replacement]) => redacted.replaceAll(shape, replacement), text);
}
