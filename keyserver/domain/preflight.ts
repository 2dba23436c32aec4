/**
 * The answer that a start would get now, without the start: no lease, no seat, no key, no nonce, and nothing is written.
 * It is no promise: a license can change between the question and the start.
 */
import { LatchkeyError } from '#src/base/errors.ts';
import { isDigest } from '#src/oci/digest.ts';
import type { NodeIdentity } from './acquire-lease.ts';
import { denialError } from './denial.ts';
import type { KeyServer } from './key-server.ts';
import { type StartDecision, decideStart } from './start-decision.ts';

/** A nonce is of a start. */
const NO_NONCE = '';

export interface PreflightQuestion {
  readonly nodeId: string;
  /** Of the node's certificate when the node itself asks. */
  readonly keyThumbprint: string | null;
  readonly imageDigest: string;
  /** Null = the one that the release was encrypted with. */
  readonly imageKeyId: string | null;
  /** Null = not known: then its clock is not judged. */
  readonly nodeTimeMs: number | null;
}

export interface PreflightAnswer {
  /** The license that allows the start; null = it would be refused. */
  readonly license: { readonly licenseId: string; readonly productCode: string } | null;
  /** Why it would be refused; null = it would not. */
  readonly denial: LatchkeyError | null;
  /** Of the image's release; null when it is not registered. */
  readonly version: string | null;
  readonly revision: number;
}

/** Decides as a start would, on one state of the database. */
export function preflight(server: KeyServer, question: PreflightQuestion): Promise<PreflightAnswer> {
  const nowMs = server.clock.nowMs();
  const { nodeTimeMs, ...asked } = question;
  return server.store.read.transaction().execute(async (reader) => {
    const start = { ...asked, nonce: NO_NONCE, nodeTimeMs: nodeTimeMs ?? nowMs };
    return toAnswer(await decideStart(server, reader, start, nowMs));
  });
}

/**
 * The same, asked by a node about itself.
 * @throws LatchkeyError the denial, as a start would get it; INPUT_MALFORMED
 */
export async function preflightOfNode(
  server: KeyServer,
  identity: NodeIdentity,
  request: { readonly imageDigest: string; readonly imageKeyId: string; readonly nodeTimeMs: number },
): Promise<{ licenseId: string; productCode: string; version: string; revision: number }> {
  const { imageDigest, imageKeyId, nodeTimeMs } = request;
  if (!isDigest(imageDigest)) throw new LatchkeyError('INPUT_MALFORMED', 'the image digest is malformed');
  const { license, denial, version, revision } = await preflight(server, {
    ...identity,
    imageDigest,
    imageKeyId: imageKeyId === '' ? null : imageKeyId,
    nodeTimeMs,
  });
  if (denial !== null) throw denial;
  if (license === null) throw new TypeError('a preflight neither allowed nor refused');
  return { ...license, version: version ?? '', revision };
}

function toAnswer({ decision, image, organization }: StartDecision): PreflightAnswer {
  const common = { version: image.release?.version ?? null, revision: organization.revision };
  if (!decision.allowed) return { ...common, license: null, denial: denialError(decision) };
  const { licenseId, productCode } = decision.license;
  return { ...common, license: { licenseId, productCode }, denial: null };
}
