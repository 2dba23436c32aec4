/**
 * The certificate with which this server answers nodes. It is kept beside the database, so that a sealed key server can
 * tell nodes that it is sealed. Its key opens no image key and signs no lease.
 */
import { X509Certificate, createPrivateKey, generateKeyPair as generateKeyPairCallback } from 'node:crypto';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { readBoundedFile } from '#src/base/bounded-file.ts';
import { systemErrorCode } from '#src/base/errors.ts';
import { MAX_LISTENER_CERTIFICATE_BYTES } from '../limits.ts';
import { replaceOwnerFile } from '../owner-file.ts';
import { type Authority, issueServerCertificate } from './certificate-authority.ts';

const generateKeyPair = promisify(generateKeyPairCallback);

const FILE = 'node-listener.pem';
const PRIVATE_KEY = /-----BEGIN PRIVATE KEY-----[^-]+-----END PRIVATE KEY-----\n/;

export interface ListenerCertificate {
  readonly certificatePem: string;
  readonly privateKeyPem: string;
}

/** Makes a new certificate and keeps it in place of the one before. */
export async function issueListenerCertificate(
  authority: Authority,
  hostnames: readonly string[],
  dataDirectory: string,
  nowMs: number,
): Promise<ListenerCertificate> {
  const { publicKey, privateKey } = await generateKeyPair('ec', { namedCurve: 'P-256' });
  const der = await issueServerCertificate(authority, publicKey, hostnames, nowMs);
  const issued = {
    certificatePem: new X509Certificate(der).toString(),
    privateKeyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
  await replaceOwnerFile(join(dataDirectory, FILE), issued.privateKeyPem + issued.certificatePem);
  return issued;
}

/** The certificate that was kept; null when there is none that this authority made and that is still good. */
export async function keptListenerCertificate(
  authorityCertificate: Uint8Array,
  dataDirectory: string,
  nowMs: number,
): Promise<ListenerCertificate | null> {
  const text = await readKept(join(dataDirectory, FILE));
  const [privateKeyPem] = PRIVATE_KEY.exec(text) ?? [];
  if (privateKeyPem === undefined) return null;
  const certificatePem = text.replace(privateKeyPem, '');
  try {
    const certificate = new X509Certificate(certificatePem);
    const isGood =
      certificate.verify(new X509Certificate(authorityCertificate).publicKey) &&
      certificate.checkPrivateKey(createPrivateKey(privateKeyPem)) &&
      certificate.validFromDate.getTime() <= nowMs &&
      nowMs < certificate.validToDate.getTime();
    return isGood ? { certificatePem, privateKeyPem } : null;
  } catch {
    // Whatever is wrong with the file, the next unsealing writes a new one.
    return null;
  }
}

async function readKept(path: string): Promise<string> {
  try {
    return ((await readBoundedFile(path, MAX_LISTENER_CERTIFICATE_BYTES)) ?? '').toString();
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return '';
    throw error;
  }
}
