/**
 * The configuration of ocicrypt's key providers (ocicrypt config/keyprovider-config), which all peers share by the
 * file that OCICRYPT_KEYPROVIDER_CONFIG names. Read more strictly than peers do: they take a misspelt setting for an
 * absent one, and so a `grpc-tls` with a typo for plain text.
 */
import * as z from 'zod';
import { LatchkeyError } from '#src/base/errors.ts';
import { parseJson } from '#src/base/json.ts';
import { MAX_PROVIDER_CONFIG_BYTES } from '#src/base/limits.ts';

export interface CommandTransport {
  readonly kind: 'command';
  /** A path, or a name that is looked up in PATH. */
  readonly path: string;
  readonly args: readonly string[];
}

export interface GrpcTransport {
  readonly kind: 'grpc';
  /** `host:port` or `unix:///path`, as gRPC names targets. */
  readonly address: string;
  /** Undefined = plain text, to this machine only. */
  readonly tls: GrpcTls | undefined;
}

export interface GrpcTls {
  /** PEM file; undefined = the authorities that this machine trusts. */
  readonly authorityFile: string | undefined;
  readonly client: { readonly certificateFile: string; readonly keyFile: string } | undefined;
  /** The name in the server's certificate, when it is not that of the address. */
  readonly serverName: string | undefined;
}

/** Transports that only the Rust peers have. */
export interface UnsupportedTransport {
  readonly kind: 'unsupported';
  readonly transport: string;
}

export type ProviderTransport = CommandTransport | GrpcTransport | UnsupportedTransport;

/** By the name that annotations carry. */
export type ProviderConfig = ReadonlyMap<string, ProviderTransport>;

// Go writes an unset list as null.
const commandSchema = z.strictObject({
  path: z.string().min(1),
  args: z.array(z.string()).nullish(),
});

const tlsSchema = z.strictObject({
  'root-ca-file': z.string().default(''),
  'cert-file': z.string().default(''),
  'key-file': z.string().default(''),
  'server-name': z.string().default(''),
  'insecure-skip-verify': z.boolean().default(false),
});

const providerSchema = z.strictObject({
  cmd: commandSchema.nullish(),
  grpc: z.string().optional(),
  'grpc-tls': tlsSchema.nullish(),
  ttrpc: z.string().optional(),
  native: z.string().optional(),
});

const configSchema = z.strictObject({ 'key-providers': z.record(z.string(), providerSchema).nullish() });

type ProviderSettings = z.infer<typeof providerSchema>;

const FORM =
  'a provider is {"key-providers": {"NAME": {"cmd": {"path": "PROGRAM", "args": []}}}} or has "grpc": "HOST:PORT"';

/** What a layer key may cross without encryption: a socket, or the loopback interface. */
const LOCAL_ADDRESS = /^(?:unix:.+|(?:dns:\/{0,3})?(?:localhost|127(?:\.\d{1,3}){3}|\[::1\]):\d{1,5})$/;
const ADDRESS = /^(?:unix:.+|(?:dns:\/{0,3})?(?:[^\s:/[\]]+|\[[\da-fA-F:.]+\]):\d{1,5})$/;

/**
 * Reads the configuration.
 * @param path where it came from, for messages
 * @throws LatchkeyError CONFIG_INVALID naming the first wrong setting
 */
export function parseProviderConfig(bytes: Uint8Array, path: string): ProviderConfig {
  if (bytes.length > MAX_PROVIDER_CONFIG_BYTES) {
    throw invalid(path, `it is larger than ${MAX_PROVIDER_CONFIG_BYTES} bytes`);
  }
  const parsed = configSchema.safeParse(parseDocument(bytes, path));
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const where = issue?.path.map(String).join('.') ?? '';
    throw invalid(path, `${where === '' ? '' : `${where}: `}${issue?.message ?? 'malformed'}`);
  }
  const providers = Object.entries(parsed.data['key-providers'] ?? {});
  return new Map(providers.map(([name, settings]) => [name, toTransport(name, settings, path)]));
}

function parseDocument(bytes: Uint8Array, path: string): unknown {
  try {
    return parseJson(bytes, 'the document');
  } catch (error) {
    const reason = error instanceof LatchkeyError ? error.message : 'it is not JSON';
    throw invalid(path, reason, { cause: error });
  }
}

/** With several transports the first of cmd and grpc counts, as in Go. */
function toTransport(name: string, settings: ProviderSettings, path: string): ProviderTransport {
  const { cmd, grpc, ttrpc, native } = settings;
  if (cmd !== undefined && cmd !== null) return { kind: 'command', path: cmd.path, args: cmd.args ?? [] };
  if (grpc !== undefined && grpc !== '') return toGrpc(name, grpc, settings['grpc-tls'] ?? undefined, path);
  if (ttrpc !== undefined) return { kind: 'unsupported', transport: 'ttrpc' };
  if (native !== undefined) return { kind: 'unsupported', transport: 'native' };
  throw invalid(path, `key-providers.${name} has neither cmd nor grpc`);
}

function toGrpc(
  name: string,
  address: string,
  settings: z.infer<typeof tlsSchema> | undefined,
  path: string,
): GrpcTransport {
  const where = `key-providers.${name}`;
  if (!ADDRESS.test(address)) {
    throw invalid(path, `${where}.grpc: ${JSON.stringify(address)} is neither host:port nor unix:///path`);
  }
  if (settings === undefined && !LOCAL_ADDRESS.test(address)) {
    throw invalid(path, `${where}: layer keys would cross the network to ${address} in plain text`, {
      hint: 'add grpc-tls, or reach the provider on 127.0.0.1 or a unix socket',
    });
  }
  return { kind: 'grpc', address, tls: settings === undefined ? undefined : toTls(where, settings, path) };
}

function toTls(where: string, settings: z.infer<typeof tlsSchema>, path: string): GrpcTls {
  if (settings['insecure-skip-verify']) {
    throw invalid(path, `${where}.grpc-tls.insecure-skip-verify would give layer keys to whoever answers`, {
      hint: "remove it, and name the provider's authority with root-ca-file",
    });
  }
  const certificateFile = settings['cert-file'];
  const keyFile = settings['key-file'];
  if ((certificateFile === '') !== (keyFile === '')) {
    throw invalid(path, `${where}.grpc-tls: cert-file and key-file belong together`);
  }
  const { 'root-ca-file': authorityFile, 'server-name': serverName } = settings;
  return {
    authorityFile: authorityFile === '' ? undefined : authorityFile,
    client: certificateFile === '' ? undefined : { certificateFile, keyFile },
    serverName: serverName === '' ? undefined : serverName,
  };
}

function invalid(
  path: string,
  reason: string,
  options: { readonly hint?: string; readonly cause?: unknown } = {},
): LatchkeyError {
  return new LatchkeyError('CONFIG_INVALID', `key providers in ${path}: ${reason}`, {
    hint: FORM,
    ...options,
  });
}
