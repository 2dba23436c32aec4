/**
 * The gRPC form of the key provider protocol: `keyprovider.KeyProviderService` (ocicrypt
 * utils/keyprovider/keyprovider.proto). Both messages are one bytes field, number 1, with the JSON document in it.
 */
import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire';

const DOCUMENT_FIELD = 1;

/** Writes the message around a document. */
export function encodeProviderMessage(document: Uint8Array): Buffer {
  const writer = new BinaryWriter();
  writer.tag(DOCUMENT_FIELD, WireType.LengthDelimited).bytes(document);
  return Buffer.from(writer.finish());
}

/**
 * Reads the document in a message; empty when it has none. Fields of a later version are passed over.
 * @throws Error for bytes that are not a message; the gRPC library answers for it
 */
export function decodeProviderMessage(message: Uint8Array): Uint8Array {
  const reader = new BinaryReader(message);
  let document: Uint8Array = new Uint8Array();
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (field === DOCUMENT_FIELD && wireType === WireType.LengthDelimited) document = reader.bytes();
    else reader.skip(wireType, field);
  }
  return document;
}

function method<Path extends string>(path: Path) {
  return {
    path,
    requestStream: false,
    responseStream: false,
    requestSerialize: encodeProviderMessage,
    requestDeserialize: decodeProviderMessage,
    responseSerialize: encodeProviderMessage,
    responseDeserialize: decodeProviderMessage,
  } as const;
}

/** The service, as `@grpc/grpc-js` describes one; its messages are documents. */
export const keyProviderService = {
  wrapKey: method('/keyprovider.KeyProviderService/WrapKey'),
  unWrapKey: method('/keyprovider.KeyProviderService/UnWrapKey'),
} as const;
