/**
 * The provider scheme: wrapping is left to an external key provider of the user's configuration (ocicrypt
 * keywrap/keyprovider). A provider is told the layer's key or element and the parameter meant for it, nothing else:
 * peers hand it every private key and password of the user, in plain text by default.
 */
import { LatchkeyError } from '#src/base/errors.ts';
import { PROVIDER_TIMEOUT_MS } from '#src/base/limits.ts';
import { parsePrivateOptions } from '#src/crypto/layer-options.ts';
import { WRAPPED_KEYS_PREFIX } from './annotations.ts';
import type { KeyUnwrapper, KeyWrapper } from './key-wrapper.ts';
import type { ProviderTransport } from './provider-config.ts';
import { providerFailed } from './provider-failure.ts';
import {
  formatUnwrapRequest,
  formatWrapRequest,
  parseUnwrapAnswer,
  parseWrapAnswer,
} from './provider-protocol.ts';

export interface KeyProvider {
  /** As configured; it is part of the annotation's name. */
  readonly name: string;
  readonly transport: ProviderTransport;
  /** What a program is started with. */
  readonly environment: NodeJS.ProcessEnv;
  readonly signal?: AbortSignal | undefined;
  /** Default: PROVIDER_TIMEOUT_MS. */
  readonly timeoutMs?: number | undefined;
}

/** One question to a provider, as its transport takes it. */
export interface ProviderCall {
  readonly name: string;
  readonly operation: 'wrap' | 'unwrap';
  readonly request: Uint8Array;
  /** Private options inside the request, which no message may show. */
  readonly secret: Uint8Array | undefined;
  readonly environment: NodeJS.ProcessEnv;
  readonly signal: AbortSignal | undefined;
  readonly timeoutMs: number;
}

/** Wraps by asking the provider. Its failures: LatchkeyError KEY_PROVIDER_FAILED, NET_*, CONFIG_INVALID. */
export function createProviderWrapper(provider: KeyProvider, parameter: string): KeyWrapper {
  const { name } = provider;
  return {
    annotation: annotationOf(name),
    wrap: async (privateOptions) => {
      const request = formatWrapRequest(name, parameter, privateOptions);
      const answer = await ask(provider, 'wrap', request, privateOptions);
      return readAnswer(name, () => parseWrapAnswer(answer));
    },
  };
}

/**
 * Opens by asking the provider; it cannot say "not mine", so whatever it refuses is thrown.
 * @param parameter what the user gave for this provider, if anything
 */
export function createProviderUnwrapper(provider: KeyProvider, parameter: string | undefined): KeyUnwrapper {
  const { name } = provider;
  return {
    annotation: annotationOf(name),
    unwrap: async (element) => {
      const request = formatUnwrapRequest(name, parameter, element);
      const answer = await ask(provider, 'unwrap', request, undefined);
      return readAnswer(name, () => {
        const privateOptions = parseUnwrapAnswer(answer);
        parsePrivateOptions(privateOptions);
        return privateOptions;
      });
    },
  };
}

function annotationOf(name: string): string {
  return `${WRAPPED_KEYS_PREFIX}provider.${name}`;
}

async function ask(
  provider: KeyProvider,
  operation: ProviderCall['operation'],
  request: Uint8Array,
  secret: Uint8Array | undefined,
): Promise<Uint8Array> {
  const { name, transport, environment, signal, timeoutMs = PROVIDER_TIMEOUT_MS } = provider;
  const call = { name, operation, request, secret, environment, signal, timeoutMs };
  switch (transport.kind) {
    case 'command': {
      const { callProviderCommand } = await import('./provider-command.ts');
      return callProviderCommand(transport, call);
    }
    case 'grpc': {
      const { callProviderGrpc } = await import('./provider-grpc.ts');
      return callProviderGrpc(transport, call);
    }
    case 'unsupported':
      throw new LatchkeyError(
        'INPUT_UNSUPPORTED',
        `key provider ${name} is configured with ${transport.transport}, which only some peers speak`,
        { hint: 'configure it with cmd or grpc' },
      );
  }
}

/** The cause is dropped on purpose: a parser's message may quote what it read, here a layer key. */
function readAnswer<Result>(name: string, read: () => Result): Result {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof LatchkeyError)) throw error;
    throw providerFailed(name, `gave an answer that cannot be used (${error.message})`);
  }
}
