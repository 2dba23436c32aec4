/**
 * How a certificate names its node: `latchkey:node:ID` for the node key itself, `latchkey:node-tls:ID:THUMBPRINT` for a key
 * that does TLS in its place. The second is another scheme, so that who knows only the first refuses it.
 */

export interface CertifiedNode {
  readonly nodeId: string;
  /** RFC 7638, of the node key; undefined = the certificate's own key is the node key. */
  readonly keyThumbprint?: string | undefined;
}

const NODE_URI = /^URI:latchkey:node:([a-z0-9_-]+)$/;
/** A thumbprint is a SHA-256 in base64url. */
const TLS_URI = /^URI:latchkey:node-tls:([a-z0-9_-]+):([A-Za-z0-9_-]{43})$/;

export function nodeUri({ nodeId, keyThumbprint }: CertifiedNode): string {
  return keyThumbprint === undefined
    ? `latchkey:node:${nodeId}`
    : `latchkey:node-tls:${nodeId}:${keyThumbprint}`;
}

/**
 * The node that a certificate names; null for a certificate that names none.
 * @param subjectAlternativeName as node:crypto writes it
 */
export function readNodeUri(subjectAlternativeName: string | undefined): CertifiedNode | null {
  const text = subjectAlternativeName ?? '';
  const [, nodeId, keyThumbprint] = NODE_URI.exec(text) ?? TLS_URI.exec(text) ?? [];
  return nodeId === undefined ? null : { nodeId, keyThumbprint };
}
