/** Who can open an encrypted layer, as far as its annotations show it to anybody. */
import forge from 'node-forge';
import { LatchkeyError } from '#src/base/errors.ts';
import { parseJson } from '#src/base/json.ts';
import {
  type Annotations,
  WRAPPED_KEYS_PREFIX,
  parseWrappedKeys,
  schemesOf,
} from '#src/keywrap/annotations.ts';
import { JWE_ANNOTATION, parseJwe } from '#src/keywrap/jwe.ts';
import { LATCHKEY_ANNOTATION, parseElement } from '#src/keywrap/latchkey-element.ts';
import { PGP_ANNOTATION } from '#src/keywrap/pgp.ts';
import { parsePkcs11Envelope } from '#src/keywrap/pkcs11-envelope.ts';
import { PKCS11_ANNOTATION } from '#src/keywrap/pkcs11.ts';
import { parseEnvelopedData } from '#src/keywrap/pkcs7-enveloped-data.ts';
import { PKCS7_ANNOTATION } from '#src/keywrap/pkcs7.ts';

/** One envelope of a layer's key. */
export interface LayerRecipient {
  /** `jwe`, `pkcs7`, `provider.latchkey` ... */
  readonly scheme: string;
  readonly imageKeyId?: string | undefined;
  readonly organizationId?: string | undefined;
  readonly contact?: string | undefined;
  /** How many keys the envelope is for, where it says. */
  readonly keys?: number | undefined;
  /** What names those keys, where it does: PGP key IDs, serial number and issuer, a key's URL. */
  readonly keyIds?: readonly string[] | undefined;
}

/**
 * Reads all envelopes of a layer; no key is needed.
 * @throws LatchkeyError INPUT_MALFORMED, INPUT_UNSUPPORTED, LIMIT_EXCEEDED
 */
export async function recipientsOf(annotations: Annotations | undefined): Promise<LayerRecipient[]> {
  const recipients: LayerRecipient[] = [];
  for (const scheme of schemesOf(annotations)) {
    const annotation = `${WRAPPED_KEYS_PREFIX}${scheme}`;
    for (const element of parseWrappedKeys(annotations?.[annotation] ?? '')) {
      recipients.push({ scheme, ...(await describeElement(annotation, element)) });
    }
  }
  return recipients;
}

async function describeElement(
  annotation: string,
  element: Uint8Array,
): Promise<Omit<LayerRecipient, 'scheme'>> {
  switch (annotation) {
    case LATCHKEY_ANNOTATION: {
      const { imageKeyId, organizationId, contact } = parseElement(element).header;
      return { imageKeyId, organizationId, contact };
    }
    case JWE_ANNOTATION:
      return { keys: parseJwe(element).length };
    case PKCS7_ANNOTATION:
      return named(parseEnvelopedData(element).recipients.map(certificateText));
    case PGP_ANNOTATION:
      return named(await pgpKeyIds(element));
    case PKCS11_ANNOTATION:
      return { keys: parsePkcs11Envelope(element).length };
    default:
      return providerKey(element);
  }
}

function named(keyIds: readonly string[]): Pick<LayerRecipient, 'keys' | 'keyIds'> {
  return { keys: keyIds.length, keyIds };
}

function certificateText({
  issuer,
  serialNumber,
}: {
  readonly issuer: Buffer;
  readonly serialNumber: Buffer;
}): string {
  return `serial ${serialNumber.toString('hex')} of ${issuerText(issuer)}`;
}

/** `CN=Acme CA, O=Acme`, from a distinguished name (RFC 5280 section 4.1.2.4). */
function issuerText(issuer: Buffer): string {
  const { asn1, pki } = forge;
  try {
    const name = asn1.fromDer(forge.util.createBuffer(issuer.toString('latin1')));
    const attributes = childrenOf(name).flatMap(childrenOf).map(childrenOf);
    // The most particular part comes last, and is written first.
    return attributes
      .reverse()
      .map(([type, value]) => {
        const identifier = asn1.derToOid(textOf(type));
        const known = pki.oids[identifier] ?? identifier;
        return `${SHORT_NAMES.get(known) ?? known}=${Buffer.from(textOf(value), 'latin1').toString('utf8')}`;
      })
      .join(', ');
  } catch {
    return 'an unreadable issuer';
  }
}

/** As people write them (RFC 4514 section 3). */
const SHORT_NAMES: ReadonlyMap<string, string> = new Map([
  ['commonName', 'CN'],
  ['organizationName', 'O'],
  ['organizationalUnitName', 'OU'],
  ['countryName', 'C'],
  ['localityName', 'L'],
  ['stateOrProvinceName', 'ST'],
]);

function childrenOf(node: forge.asn1.Asn1): forge.asn1.Asn1[] {
  if (typeof node.value === 'string') throw new TypeError('not constructed');
  return node.value;
}

function textOf(node: forge.asn1.Asn1 | undefined): string {
  if (typeof node?.value !== 'string') throw new TypeError('not primitive');
  return node.value;
}

async function pgpKeyIds(element: Uint8Array): Promise<string[]> {
  const { readMessage } = await import('openpgp');
  try {
    const message = await readMessage({ binaryMessage: new Uint8Array(element) });
    return message.getEncryptionKeyIDs().map((keyId) => keyId.toHex().toUpperCase());
  } catch (error) {
    throw new LatchkeyError('INPUT_MALFORMED', 'a wrapped key is not a PGP message', { cause: error });
  }
}

/** Key providers write what they like; those that are public name their key (ocicrypt's examples, Confidential Containers). */
function providerKey(element: Uint8Array): Pick<LayerRecipient, 'keyIds'> {
  try {
    const packet = parseJson(element, 'the wrapped key');
    if (typeof packet !== 'object' || packet === null || Array.isArray(packet)) return {};
    const { kid, key_url: url } = packet as { readonly kid?: unknown; readonly key_url?: unknown };
    const keyIds = [kid, url].filter((name) => typeof name === 'string');
    return keyIds.length === 0 ? {} : { keyIds };
  } catch {
    return {};
  }
}
