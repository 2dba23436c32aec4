/**
 * Credentials from the files where `docker login` and `podman login` put them (containers-auth.json(5)). A registry's
 * credentials are found by its exact host: a match on a part of the name would hand them to a stranger.
 */
import { join } from 'node:path';
import * as z from 'zod';
import { readBoundedFile } from '#src/base/bounded-file.ts';
import { LatchkeyError, systemErrorCode, toLatchkeyError } from '#src/base/errors.ts';
import { parseJson } from '#src/base/json.ts';
import { CREDENTIAL_HELPER_TIMEOUT_MS, MAX_DOCKER_CONFIG_BYTES } from '#src/base/limits.ts';
import { runCredentialHelper } from './credential-helper.ts';

export type Credentials =
  | { readonly kind: 'password'; readonly username: string; readonly password: string }
  /** An OAuth2 refresh token, exchanged for a short-lived one at the registry's token server. */
  | { readonly kind: 'identity-token'; readonly token: string };

/**
 * Credentials for a registry as references name it; undefined means anonymous.
 * @param repository within it, as there may be credentials for a part of the registry
 */
export type CredentialSource = (registry: string, repository?: string) => Promise<Credentials | undefined>;

/** `docker login` keeps Docker Hub's credentials under this name. */
const DOCKER_HUB_KEY = 'https://index.docker.io/v1/';
const DOCKER_HUB_HOSTS = new Set(['docker.io', 'index.docker.io', 'registry-1.docker.io']);
/** Paths that old and new clients put behind the host; any other path names less than the whole registry. */
const WHOLE_REGISTRY_PATHS = new Set(['', '/', '/v1', '/v1/', '/v2', '/v2/']);

const entrySchema = z.looseObject({
  auth: z.string().optional(),
  username: z.string().optional(),
  password: z.string().optional(),
  identitytoken: z.string().optional(),
});

const configSchema = z.looseObject({
  auths: z.record(z.string(), entrySchema).optional(),
  credHelpers: z.record(z.string(), z.string()).optional(),
  credsStore: z.string().optional(),
});

type CredentialFile = z.output<typeof configSchema>;

/**
 * Credentials from the files of {@link credentialFiles}; the first that has some for the registry counts. The files are
 * read at each call, so a login takes effect at once.
 * @param environment also for credential helpers, which are found in `PATH`
 * @param helperTimeoutMs how long one of them may take
 */
export function storedCredentials(
  environment: NodeJS.ProcessEnv,
  helperTimeoutMs = CREDENTIAL_HELPER_TIMEOUT_MS,
): CredentialSource {
  return async (registry, repository) => {
    for (const path of credentialFiles(environment)) {
      const config = await readConfig(path);
      if (config === undefined) continue;
      const found =
        partOfRegistry(config, registry, repository, path) ??
        (await helped(config, registry, environment, helperTimeoutMs)) ??
        wholeRegistry(config, registry, path);
      if (found !== undefined) return found;
    }
    return undefined;
  };
}

/**
 * Where credentials may be: a file or directory that was named stands alone; else podman's files, then Docker's.
 * @param environment `REGISTRY_AUTH_FILE`, `DOCKER_CONFIG`, `XDG_RUNTIME_DIR`, `XDG_CONFIG_HOME`, `HOME`
 */
export function credentialFiles(environment: NodeJS.ProcessEnv): readonly string[] {
  const named = (name: string): string | undefined => {
    const value = environment[name];
    return value === '' ? undefined : value;
  };
  const authFile = named('REGISTRY_AUTH_FILE');
  if (authFile !== undefined) return [authFile];
  const dockerDirectory = named('DOCKER_CONFIG');
  if (dockerDirectory !== undefined) return [join(dockerDirectory, 'config.json')];
  const home = named('HOME');
  const runtime = named('XDG_RUNTIME_DIR');
  const settings = named('XDG_CONFIG_HOME') ?? (home === undefined ? undefined : join(home, '.config'));
  return [
    ...(runtime === undefined ? [] : [join(runtime, 'containers', 'auth.json')]),
    ...(settings === undefined ? [] : [join(settings, 'containers', 'auth.json')]),
    ...(home === undefined ? [] : [join(home, '.docker', 'config.json')]),
  ];
}

async function helped(
  config: CredentialFile,
  registry: string,
  environment: NodeJS.ProcessEnv,
  timeoutMs: number,
): Promise<Credentials | undefined> {
  const helper = helperFor(config, registry);
  if (helper === undefined) return undefined;
  return runCredentialHelper(helper, serverName(registry), environment, timeoutMs);
}

async function readConfig(path: string): Promise<CredentialFile | undefined> {
  let bytes: Uint8Array | undefined;
  try {
    bytes = await readBoundedFile(path, MAX_DOCKER_CONFIG_BYTES);
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return undefined;
    throw toLatchkeyError(error);
  }
  if (bytes === undefined) throw malformed(path, 'it is too large');
  let value: unknown;
  try {
    value = parseJson(bytes, path);
  } catch (error) {
    throw malformed(path, 'it is not JSON', error);
  }
  const result = configSchema.safeParse(value);
  if (result.success) return result.data;
  // Only the place is named: the message of the schema library could quote a secret.
  throw malformed(path, `the field ${result.error.issues[0]?.path[0]?.toString() ?? ''} is malformed`);
}

function helperFor(config: CredentialFile, registry: string): string | undefined {
  for (const [key, helper] of Object.entries(config.credHelpers ?? {})) {
    if (isSameRegistry(key, registry)) return helper;
  }
  return config.credsStore === '' ? undefined : config.credsStore;
}

/** The entry with the longest path that the repository is in: `registry.example.com/team/app` before `.../team`. */
function partOfRegistry(
  config: CredentialFile,
  registry: string,
  repository: string | undefined,
  path: string,
): Credentials | undefined {
  const parts = repository?.split('/') ?? [];
  for (let length = parts.length; length > 0; length -= 1) {
    const key = `${registry}/${parts.slice(0, length).join('/')}`;
    const entry = Object.hasOwn(config.auths ?? {}, key) ? config.auths?.[key] : undefined;
    const found = entry === undefined ? undefined : credentialsIn(entry, key, path);
    if (found !== undefined) return found;
  }
  return undefined;
}

function wholeRegistry(config: CredentialFile, registry: string, path: string): Credentials | undefined {
  for (const [key, entry] of Object.entries(config.auths ?? {})) {
    const found = isSameRegistry(key, registry) ? credentialsIn(entry, key, path) : undefined;
    if (found !== undefined) return found;
  }
  return undefined;
}

function credentialsIn(
  entry: z.output<typeof entrySchema>,
  key: string,
  path: string,
): Credentials | undefined {
  if (entry.identitytoken !== undefined && entry.identitytoken !== '') {
    return { kind: 'identity-token', token: entry.identitytoken };
  }
  if (entry.auth !== undefined && entry.auth !== '') return decodeAuth(entry.auth, key, path);
  if (entry.username !== undefined && entry.password !== undefined) {
    return { kind: 'password', username: entry.username, password: entry.password };
  }
  return undefined;
}

/** `base64(user:password)`; only the first colon separates. */
function decodeAuth(auth: string, key: string, path: string): Credentials {
  const text = Buffer.from(auth, 'base64').toString('utf8');
  const colon = text.indexOf(':');
  if (colon <= 0) throw malformed(path, `auths["${key}"].auth is not base64 of "user:password"`);
  return { kind: 'password', username: text.slice(0, colon), password: text.slice(colon + 1) };
}

/** Keys are hosts, or URLs of a host as older clients wrote them. */
function isSameRegistry(key: string, registry: string): boolean {
  const withoutScheme = key.replace(/^https?:\/\//, '');
  const slash = withoutScheme.indexOf('/');
  const host = slash < 0 ? withoutScheme : withoutScheme.slice(0, slash);
  const path = slash < 0 ? '' : withoutScheme.slice(slash);
  if (!WHOLE_REGISTRY_PATHS.has(path)) return false;
  if (DOCKER_HUB_HOSTS.has(registry)) return DOCKER_HUB_HOSTS.has(host);
  return host.toLowerCase() === registry.toLowerCase();
}

function serverName(registry: string): string {
  return DOCKER_HUB_HOSTS.has(registry) ? DOCKER_HUB_KEY : registry;
}

function malformed(path: string, reason: string, cause?: unknown): LatchkeyError {
  return new LatchkeyError('CONFIG_INVALID', `cannot read the registry credentials in ${path}: ${reason}`, {
    hint: 'repair the file, or log in again with "docker login" or "podman login"',
    cause,
  });
}
