/**
 * What `latchkey keyprovider` does with a request: it wraps with an image key from a file, and leaves opening to the
 * agent of this node. Of the keys and passwords that peers send along nothing is read or passed on.
 */
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_PROVIDER_MESSAGE_BYTES } from '#src/base/limits.ts';
import { parsePrivateOptions } from '#src/crypto/layer-options.ts';
import { createLatchkeyWrapper } from '#src/keywrap/latchkey.ts';
import {
  formatUnwrapRequest,
  formatWrapAnswer,
  parseProviderRequest,
} from '#src/keywrap/provider-protocol.ts';
import { readImageKeyFile } from './image-key-file.ts';

/** The name in annotations; a node looks for elements under no other. */
const PROVIDER_NAME = 'latchkey';
const FILE_PARAMETER = 'image-key=';

/**
 * Reads the one request.
 * @throws LatchkeyError LIMIT_EXCEEDED
 */
export async function readRequest(input: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of input) {
    sizeBytes += chunk.length;
    if (sizeBytes > MAX_PROVIDER_MESSAGE_BYTES) {
      const message = `the key provider request is larger than ${MAX_PROVIDER_MESSAGE_BYTES} bytes`;
      throw new LatchkeyError('LIMIT_EXCEEDED', message);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/**
 * Answers a request.
 * @param socketPath the agent's key provider socket, for opening
 * @throws LatchkeyError INPUT_*, USAGE_INVALID, KEY_INVALID, STATE_NOT_FOUND, NET_*, DENIED_*
 */
export async function answerProviderRequest(
  document: Uint8Array,
  socketPath: string,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const request = parseProviderRequest(document, PROVIDER_NAME);
  if (request.operation === 'wrap') return formatWrapAnswer(await wrap(request));
  const { askKeyProvider } = await import('#src/wire/key-provider-connection.ts');
  return askKeyProvider(socketPath, formatUnwrapRequest(PROVIDER_NAME, undefined, request.element), signal);
}

async function wrap(request: {
  readonly parameters: readonly Uint8Array[] | undefined;
  readonly privateOptions: Uint8Array;
}): Promise<Uint8Array> {
  const { imageKey, owner } = await readImageKeyFile(imageKeyPath(request.parameters));
  if (parsePrivateOptions(request.privateOptions).plainDigest === undefined) {
    throw new LatchkeyError('INPUT_UNSUPPORTED', 'the request does not say which layer the key is of', {
      hint: 'encrypt from an image layout or a registry, where every layer has a digest',
    });
  }
  return createLatchkeyWrapper(owner, imageKey).wrap(request.privateOptions);
}

function imageKeyPath(parameters: readonly Uint8Array[] | undefined): string {
  if (parameters === undefined) {
    throw new LatchkeyError('USAGE_INVALID', 'this key provider must be configured under the name latchkey', {
      hint: 'nodes look for their keys under that name',
    });
  }
  const texts = parameters.map((parameter) => Buffer.from(parameter).toString());
  const paths = texts.flatMap((text) =>
    text.startsWith(FILE_PARAMETER) ? [text.slice(FILE_PARAMETER.length)] : [],
  );
  const [path] = paths;
  if (path !== undefined && path !== '' && paths.length === 1 && texts.length === 1) return path;
  throw new LatchkeyError('USAGE_INVALID', 'one image key is needed to encrypt with', {
    hint: 'write provider:latchkey:image-key=FILE, with a FILE of latchkey image-key create',
  });
}
