/** Standard base64 with padding (RFC 4648 section 4), read strictly: what two readers could see differently is refused. */

/** Gives the bytes, or undefined when the text is not exactly what an encoder would have written. */
export function decodeBase64(text: string): Buffer | undefined {
  const bytes = Buffer.from(text, 'base64');
  return bytes.toString('base64') === text ? bytes : undefined;
}

/** Encodes bytes. */
export function encodeBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');
}
