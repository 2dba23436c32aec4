/** How a Kubernetes API is reached: from a kubeconfig, or from what every pod is given. */
import { readFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { parse } from 'yaml';
import * as z from 'zod';
import { LatchkeyError } from '#src/base/errors.ts';

const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';
/** A kubeconfig has a few entries; aliases could make them billions. */
const NO_ALIASES = 0;

export interface ClusterAccess {
  /** `https://...` */
  readonly server: string;
  readonly authorityPem: string | undefined;
  readonly certificatePem: string | undefined;
  readonly privateKeyPem: string | undefined;
  readonly token: string | undefined;
}

const kubeconfigSchema = z.object({
  'current-context': z.string(),
  contexts: z.array(
    z.object({ name: z.string(), context: z.object({ cluster: z.string(), user: z.string() }) }),
  ),
  clusters: z.array(
    z.object({
      name: z.string(),
      cluster: z.object({
        server: z.string().regex(/^https:\/\//, 'must be https'),
        'certificate-authority': z.string().optional(),
        'certificate-authority-data': z.string().optional(),
      }),
    }),
  ),
  users: z.array(
    z.object({
      name: z.string(),
      user: z.object({
        'client-certificate': z.string().optional(),
        'client-certificate-data': z.string().optional(),
        'client-key': z.string().optional(),
        'client-key-data': z.string().optional(),
        token: z.string().optional(),
        tokenFile: z.string().optional(),
      }),
    }),
  ),
});

type Kubeconfig = z.infer<typeof kubeconfigSchema>;

interface CurrentContext {
  readonly cluster: Kubeconfig['clusters'][number]['cluster'];
  readonly user: Kubeconfig['users'][number]['user'];
}

/**
 * Pure: the current context of a kubeconfig. Neither the text nor the parser's words about it are shown: it holds secrets.
 * @param path where it came from, for messages
 * @throws LatchkeyError CONFIG_INVALID
 */
export function parseKubeconfig(text: string, path: string): CurrentContext {
  const refuse = (why: string) =>
    new LatchkeyError('CONFIG_INVALID', `the kubeconfig ${path} cannot be used: ${why}`);
  let document: unknown;
  try {
    document = parse(text, { maxAliasCount: NO_ALIASES, logLevel: 'silent' });
  } catch {
    throw refuse('it is not YAML');
  }
  const parsed = kubeconfigSchema.safeParse(document);
  if (!parsed.success) throw refuse(`${parsed.error.issues[0]?.path.join('.') ?? ''} is missing or wrong`);
  const { contexts, clusters, users, 'current-context': current } = parsed.data;
  const context = contexts.find(({ name }) => name === current)?.context;
  const cluster = clusters.find(({ name }) => name === context?.cluster)?.cluster;
  const user = users.find(({ name }) => name === context?.user)?.user;
  if (cluster === undefined || user === undefined) throw refuse('its current context names nothing');
  return { cluster, user };
}

/**
 * Reads the current context of a kubeconfig, and the files that it names.
 * @throws LatchkeyError CONFIG_INVALID; system errors for files that cannot be read
 */
export async function readKubeconfig(path: string): Promise<ClusterAccess> {
  const { cluster, user } = parseKubeconfig(await readFile(path, 'utf8'), path);
  const contents = async (data: string | undefined, file: string | undefined) => {
    if (data !== undefined) return Buffer.from(data, 'base64').toString();
    return file === undefined ? undefined : readFile(resolve(dirname(path), file), 'utf8');
  };
  return {
    server: cluster.server,
    authorityPem: await contents(cluster['certificate-authority-data'], cluster['certificate-authority']),
    certificatePem: await contents(user['client-certificate-data'], user['client-certificate']),
    privateKeyPem: await contents(user['client-key-data'], user['client-key']),
    token: user.token ?? (await contents(undefined, user.tokenFile))?.trim(),
  };
}

/** What a pod is given; undefined outside of one. */
export async function inClusterAccess(
  env: Readonly<Record<string, string | undefined>>,
): Promise<ClusterAccess | undefined> {
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port = '443' } = env;
  if (host === undefined || host === '') return undefined;
  return {
    server: `https://${host.includes(':') ? `[${host}]` : host}:${port}`,
    authorityPem: await readFile(`${SERVICE_ACCOUNT}/ca.crt`, 'utf8'),
    certificatePem: undefined,
    privateKeyPem: undefined,
    token: (await readFile(`${SERVICE_ACCOUNT}/token`, 'utf8')).trim(),
  };
}
