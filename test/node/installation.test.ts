import 'reflect-metadata';
import { generateKeyPairSync } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import type { RequestListener } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { X509Certificate } from '@peculiar/x509';
import { afterEach, describe, expect, test } from 'vitest';
import { createAuthority, issueServerCertificate } from '../../keyserver/custody/certificate-authority.ts';
import { startKeyServer } from '../../lab/keyserver.ts';
import { type InstallationSettings, installationId } from '../../shim/agent/installation-id.ts';
import { AgentNode } from '../fakes/agent-node.ts';
import { createSoldProduct } from '../fakes/sold-product.ts';
import { temporaryDirectory } from '../fakes/temporary-directory.ts';

const UID = '5f9c3b6e-0a55-4b3f-9c1d-2f6a7e8b9c0d';
const TOKEN = 'kube-token';
const directory = temporaryDirectory();
const closing: (() => void)[] = [];

afterEach(() => {
  for (const close of closing.splice(0)) close();
});

const answerNamespace: RequestListener = (request, response) => {
  const isAllowed = request.headers.authorization === `Bearer ${TOKEN}`;
  const isKubeSystem = request.method === 'GET' && request.url === '/api/v1/namespaces/kube-system';
  response.statusCode = isAllowed && isKubeSystem ? 200 : 403;
  response.end(JSON.stringify({ kind: 'Namespace', metadata: { name: 'kube-system', uid: UID } }));
};

/** A cluster's API, as far as it is asked; gives the path of a kubeconfig for it. */
async function startCluster(answer: RequestListener, token = TOKEN): Promise<string> {
  const [authorityKeys, keys] = [p256(), p256()];
  const authorityCertificate = await createAuthority('Cluster', authorityKeys, Date.now());
  const authority = { authorityCertificate, authorityKey: authorityKeys.privateKey };
  const certificate = await issueServerCertificate(authority, keys.publicKey, ['127.0.0.1'], Date.now());
  const key = keys.privateKey.export({ type: 'pkcs8', format: 'pem' });
  const server = createServer({ key, cert: pemOf(certificate) }, answer);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closing.push(() => {
    server.close();
    server.closeAllConnections();
  });
  const { port } = server.address() as AddressInfo;
  await writeFile(join(directory(), 'ca.crt'), pemOf(authorityCertificate));
  const kubeconfig = join(directory(), 'kubeconfig');
  await writeFile(
    kubeconfig,
    JSON.stringify({
      'current-context': 'c',
      contexts: [{ name: 'c', context: { cluster: 'k', user: 'u' } }],
      clusters: [
        { name: 'k', cluster: { server: `https://127.0.0.1:${port}`, 'certificate-authority': 'ca.crt' } },
      ],
      users: [{ name: 'u', user: { token } }],
    }),
  );
  return kubeconfig;
}

function p256() {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' });
}

function pemOf(der: Uint8Array): string {
  return new X509Certificate(Buffer.from(der)).toString('pem');
}

const failures: unknown[] = [];
function settings(changes: Partial<InstallationSettings>): InstallationSettings {
  return {
    ...{ installation: 'auto', kubeconfig: undefined, directory: directory(), env: {} },
    onClusterFailed: (error) => failures.push(error),
    ...changes,
  };
}

describe('the installation of a node', () => {
  test('is the uid of the cluster, which the key server lists', async () => {
    const kubeconfig = await startCluster(answerNamespace);
    expect(await installationId(settings({ kubeconfig }))).toBe(UID);
    const keyServer = await startKeyServer();
    const sold = await createSoldProduct(keyServer);
    const node = await AgentNode.start({ directory: directory(), keyServer, settings: { kubeconfig } });
    const { identity } = await node.agent.activate((await sold.sell()).licenseKey);
    node.stop();
    const listed = (await sold.client.nodes()).find(({ id }) => id === identity.nodeId);
    await keyServer.dispose();
    expect(listed?.installation).toBe(UID);
  });

  test('is the name that the operator gives', async () => {
    expect(await installationId(settings({ installation: 'plant 7' }))).toBe('plant 7');
  });

  test.each<[string, RequestListener, string]>([
    ['refuses', answerNamespace, 'wrong token'],
    ['answers with something else', (_request, response) => response.end('{"metadata":{}}'), TOKEN],
    ['never stops answering', (_request, response) => void response.write(Buffer.alloc(1_000_000)), TOKEN],
    ['does not answer', () => undefined, TOKEN],
  ])('is made here, once, where the cluster %s', async (_case, answer, token) => {
    failures.length = 0;
    const kubeconfig = await startCluster(answer, token);
    const made = await installationId(settings({ kubeconfig }));
    expect(made).toMatch(/^[0-9a-f-]{36}$/u);
    expect(made).not.toBe(UID);
    expect(await installationId(settings({}))).toBe(made);
    expect(failures).toHaveLength(1);
    expect(String(failures[0])).not.toContain(token);
  });

  test.each([
    'not: [yaml',
    'current-context: x',
    '{"current-context":"x","contexts":[],"clusters":[],"users":[]}',
  ])('is made here where the kubeconfig is no use: %s', async (text) => {
    const kubeconfig = join(directory(), 'kubeconfig');
    await writeFile(kubeconfig, text);
    expect(await installationId(settings({ kubeconfig }))).toMatch(/^[0-9a-f-]{36}$/u);
    expect(failures.at(-1)).toMatchObject({ code: 'CONFIG_INVALID' });
  });
});
