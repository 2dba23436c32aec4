/**
 * Which installation this node belongs to, so that a vendor can tell a customer's clusters apart: the uid of the
 * kube-system namespace, which every cluster has and keeps, a name from the configuration, or an id made here.
 */
import { randomUUID } from 'node:crypto';
import { request } from 'node:https';
import * as z from 'zod';
import { LatchkeyError } from '#src/base/errors.ts';
import { parseJson } from '#src/base/json.ts';
import { type ClusterAccess, inClusterAccess, readKubeconfig } from './cluster-access.ts';
import { readPrivateFile, writePrivateFile } from './private-file.ts';

/** Activation waits for it. */
const CLUSTER_TIMEOUT_MS = 5000;
/** A namespace is one kibibyte. */
const MAX_ANSWER_BYTES = 65_536;
const FILE = 'installation-id';
const AUTO = 'auto';

const namespaceSchema = z.object({ metadata: z.object({ uid: z.uuid() }) });

export interface InstallationSettings {
  /** `auto` or a name. */
  readonly installation: string;
  readonly kubeconfig: string | undefined;
  /** Where an id that is made here is kept. */
  readonly directory: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Told why the cluster was not asked to the end. */
  readonly onClusterFailed: (error: unknown) => void;
}

/** Gives the installation's id; a cluster that does not answer does not keep a node from being activated. */
export async function installationId(settings: InstallationSettings): Promise<string> {
  const { installation, kubeconfig, directory, env, onClusterFailed } = settings;
  if (installation !== AUTO) return installation;
  try {
    const access = kubeconfig === undefined ? await inClusterAccess(env) : await readKubeconfig(kubeconfig);
    if (access !== undefined) return await clusterUid(access);
  } catch (error) {
    onClusterFailed(error);
  }
  const kept = await readPrivateFile(directory, FILE);
  if (kept !== undefined) return kept.trim();
  const made = randomUUID();
  await writePrivateFile(directory, FILE, `${made}\n`);
  return made;
}

/**
 * Asks a cluster for the uid of its kube-system namespace.
 * @throws LatchkeyError NET_UNREACHABLE, NET_TIMEOUT, INPUT_MALFORMED
 */
export function clusterUid(access: ClusterAccess): Promise<string> {
  const { server, authorityPem, certificatePem, privateKeyPem, token } = access;
  return new Promise((resolve, reject) => {
    const asked = request(
      new URL('/api/v1/namespaces/kube-system', server),
      {
        ca: authorityPem,
        cert: certificatePem,
        key: privateKeyPem,
        headers: {
          accept: 'application/json',
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        },
        // Of the whole exchange: a server that drips would hold the activation up.
        signal: AbortSignal.timeout(CLUSTER_TIMEOUT_MS),
      },
      (answer) => {
        const chunks: Buffer[] = [];
        let size = 0;
        answer.on('data', (chunk: Buffer) => {
          chunks.push(chunk);
          size += chunk.length;
          if (size > MAX_ANSWER_BYTES)
            asked.destroy(new LatchkeyError('INPUT_MALFORMED', 'the cluster says too much'));
        });
        answer.on('error', reject);
        answer.on('end', () => {
          try {
            if (answer.statusCode !== 200) throw new Error(`status ${answer.statusCode ?? 0}`);
            resolve(namespaceSchema.parse(parseJson(Buffer.concat(chunks), 'the namespace')).metadata.uid);
          } catch (error) {
            reject(
              new LatchkeyError('INPUT_MALFORMED', `the cluster at ${server} does not name kube-system`, {
                cause: error,
              }),
            );
          }
        });
      },
    );
    asked.on('error', (error) => {
      if (error instanceof LatchkeyError) reject(error);
      else if (error.name === 'AbortError' || error.name === 'TimeoutError') {
        reject(
          new LatchkeyError('NET_TIMEOUT', `the cluster at ${server} did not answer in time`, {
            cause: error,
          }),
        );
      } else
        reject(
          new LatchkeyError('NET_UNREACHABLE', `the cluster at ${server} is unreachable`, { cause: error }),
        );
    });
    asked.end();
  });
}
