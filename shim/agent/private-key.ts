/** New P-256 keys. */
import { generateKeyPair } from 'node:crypto';
import { promisify } from 'node:util';

/** PKCS#8 PEM. */
export async function makePrivateKeyPem(): Promise<string> {
  // The asynchronous form: the synchronous one can deadlock with garbage collection on older Nodes.
  const { privateKey } = await promisify(generateKeyPair)('ec', { namedCurve: 'P-256' });
  return privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
}
