/**
 * Credentials from Docker's config.json, where `docker login` puts them. A registry's credentials are found by its exact
 * host: a match on a part of the name would hand them to a stranger.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { LatchkeyError, systemErrorCode, toLatchkeyError } from '#src/base/errors.ts';
import { parseJson } from '#src/base/json.ts';
import { MAX_DOCKER_CONFIG_BYTES } from '#src/base/limits.ts';
import { runCredentialHelper } from './credential-helper.ts';

export type Credentials =
  | { readonly kind: 'password'; readonly username: string; readonly password: string }
  /** An OAuth2 refresh token, exchanged for a short-lived one at the registry's token server. */
  | { readonly kind: 'identity-token'; readonly token: string };

/** Credentials for a registry as references name it; undefined means anonymous. */
export type CredentialSource = (registry: string) => Promise<Credentials | undefined>;

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

type DockerConfig = z.output<typeof configSchema>;

/**
 * Credentials from the config.json in DOCKER_CONFIG, or in `.docker` of the home directory.
 * The file is read at each call, so a login takes effect at once.
 * @param environment `DOCKER_CONFIG`, `HOME`, and `PATH` for credential helpers
 */
export function dockerCredentials(environment: NodeJS.ProcessEnv): CredentialSource {
  return async (registry) => {
    const path = configPath(environment);
    const config = path === undefined ? undefined : await readConfig(path);
    if (config === undefined || path === undefined) return undefined;
    const helper = helperFor(config, registry);
    if (helper !== undefined) {
      const found = await runCredentialHelper(helper, serverName(registry), environment);
      if (found !== undefined) return found;
    }
    return storedCredentials(config, registry, path);
  };
}

function configPath(environment: NodeJS.ProcessEnv): string | undefined {
  const directory = environment['DOCKER_CONFIG'];
  if (directory !== undefined && directory !== '') return join(directory, 'config.json');
  const home = environment['HOME'];
  return home === undefined || home === '' ? undefined : join(home, '.docker', 'config.json');
}

async function readConfig(path: string): Promise<DockerConfig | undefined> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return undefined;
    throw toLatchkeyError(error);
  }
  if (bytes.length > MAX_DOCKER_CONFIG_BYTES) throw malformed(path, 'it is too large');
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

function helperFor(config: DockerConfig, registry: string): string | undefined {
  for (const [key, helper] of Object.entries(config.credHelpers ?? {})) {
    if (isSameRegistry(key, registry)) return helper;
  }
  return config.credsStore === '' ? undefined : config.credsStore;
}

function storedCredentials(config: DockerConfig, registry: string, path: string): Credentials | undefined {
  for (const [key, entry] of Object.entries(config.auths ?? {})) {
    if (!isSameRegistry(key, registry)) continue;
    if (entry.identitytoken !== undefined && entry.identitytoken !== '') {
      return { kind: 'identity-token', token: entry.identitytoken };
    }
    if (entry.auth !== undefined && entry.auth !== '') return decodeAuth(entry.auth, key, path);
    if (entry.username !== undefined && entry.password !== undefined) {
      return { kind: 'password', username: entry.username, password: entry.password };
    }
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
    hint: 'repair the file, or log in again with "docker login"',
    cause,
  });
}
