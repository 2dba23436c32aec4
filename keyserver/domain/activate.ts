/**
 * Activation: a license key or a join token, used this once, makes a machine a node. The machine proves its own key; from
 * then on it is that key, and what it was enrolled with is not needed again.
 */
import { type JWK, calculateJwkThumbprint } from 'jose';
import { LatchkeyError } from '#src/base/errors.ts';
import { type NodeFacts, decide } from '#src/licensing/decide.ts';
import { nextLicenseState } from '#src/licensing/license-state.ts';
import { isOverdrawn } from '#src/licensing/seats.ts';
import { type AuditEntry, appendAuditEvent } from '../audit/append-event.ts';
import { concealText } from '../audit/concealed-text.ts';
import {
  type NodeCertificate,
  issueNodeCertificate,
  parseNodeRequest,
} from '../custody/certificate-authority.ts';
import type { Writer } from '../db/store.ts';
import { loadOrganization } from './decision-facts.ts';
import { denialError } from './denial.ts';
import { type Credential, NO_LICENSE, loadCredential, readCredential } from './enrolment-credential.ts';
import { newId } from './ids.ts';
import { useJoinToken } from './join-tokens.ts';
import type { KeyServer } from './key-server.ts';
import { forgetSession } from './node-sessions.ts';
import { beginTerm } from './license-term.ts';
import { nextRevision } from './revision.ts';
import { loadSeats } from './seat-facts.ts';
import type { GrantableLicense } from './license-facts.ts';

export interface ActivationRequest {
  /** This or a join token; the other is empty. */
  readonly licenseKey: string;
  readonly joinToken: string;
  /** PKCS#10, DER, P-256. */
  readonly certificateRequest: Uint8Array;
  readonly nodeName: string;
  /** Empty when the node does not say. */
  readonly installation: string;
  readonly nodeTimeMs: number;
}

export interface Activation {
  readonly nodeId: string;
  readonly certificate: NodeCertificate;
  readonly licenseId: string;
  readonly productCode: string;
  readonly contact: string;
}

const MAX_NODE_NAME = 253;
const MAX_INSTALLATION = 128;

/**
 * Activates a node. The same node key under the same license takes no second seat.
 * @throws LatchkeyError INPUT_LICENSE_KEY_MALFORMED, INPUT_MALFORMED, DENIED_*, RATE_LIMITED
 */
export async function activate(server: KeyServer, request: ActivationRequest): Promise<Activation> {
  const credential = readCredential(server, request.licenseKey, request.joinToken);
  const applicant = await readApplicant(server, request);
  const { nodeId, certificate } = applicant;
  const verdict = await server.store.write((writer) =>
    decideAndRecord(server, writer, {
      ...{ credential, ...applicant },
      nodeTimeMs: request.nodeTimeMs,
    }),
  );
  if (verdict instanceof LatchkeyError) throw verdict;
  server.changes.publish([nodeId]);
  return { nodeId, certificate, ...verdict };
}

/**
 * Reads who wants to be a node, and makes the certificate that it gets if it is let in.
 * @throws LatchkeyError INPUT_MALFORMED
 */
export async function readApplicant(
  server: KeyServer,
  request: Pick<ActivationRequest, 'certificateRequest' | 'nodeName' | 'installation'>,
): Promise<Applicant> {
  checkNodeName(request.nodeName);
  checkInstallation(request.installation);
  const certificateRequest = await parseNodeRequest(request.certificateRequest);
  const publicJwk = certificateRequest.publicKey.export({ format: 'jwk' }) as JWK;
  const candidate: Candidate = {
    name: request.nodeName.slice(0, MAX_NODE_NAME),
    installation: request.installation === '' ? null : request.installation,
    publicJwk: JSON.stringify(publicJwk),
    keyThumbprint: await calculateJwkThumbprint(publicJwk),
    newNodeId: newId('node', server.clock.nowMs()),
  };
  const known = await findNode(server, server.store.read, candidate.keyThumbprint);
  const nodeId = known?.nodeId ?? candidate.newNodeId;
  const certificate = await issueNodeCertificate(server.keys, certificateRequest, nodeId, {
    nowMs: server.clock.nowMs(),
    lifetimeMs: server.nodeCertificateLifetimeMs,
  });
  return { candidate, nodeId, certificate };
}

/** The name stands in lists, on terminals. */
function checkNodeName(name: string): void {
  if (name !== '' && !/\p{Cc}/u.test(name)) return;
  throw new LatchkeyError(
    'INPUT_MALFORMED',
    name === '' ? 'the node has no name' : 'the node name holds control characters',
    { hint: 'give the node a plain name in its configuration' },
  );
}

function checkInstallation(installation: string): void {
  if (installation.length <= MAX_INSTALLATION && !/\p{Cc}/u.test(installation)) return;
  throw new LatchkeyError(
    'INPUT_MALFORMED',
    'the name of the installation is too long or holds control characters',
    {
      hint: 'give the installation a plain name in the node configuration',
    },
  );
}

interface Candidate {
  readonly name: string;
  readonly installation: string | null;
  readonly publicJwk: string;
  readonly keyThumbprint: string;
  readonly newNodeId: string;
}

export interface Applicant {
  readonly candidate: Candidate;
  /** The node's when the key is known. */
  readonly nodeId: string;
  readonly certificate: NodeCertificate;
}

interface Enrolment extends Applicant {
  readonly credential: Credential;
  readonly nodeTimeMs: number;
}

/** Gives what the node learns of its license, or the denial; both are in the audit log. */
async function decideAndRecord(
  server: KeyServer,
  writer: Writer,
  enrolment: Enrolment,
): Promise<Pick<Activation, 'licenseId' | 'productCode' | 'contact'> | LatchkeyError> {
  const { organizationId } = server;
  const { nodeId, candidate } = enrolment;
  const nowMs = server.clock.nowMs();
  const record = (entry: Pick<AuditEntry, 'target' | 'outcome' | 'code' | 'detail'>) =>
    appendAuditEvent(writer, organizationId, nowMs, {
      actor: 'enrollment',
      // An unknown credential shows nothing.
      authMethod: opened.license === undefined ? 'none' : enrolment.credential.kind,
      action: 'node.activate',
      ...entry,
    });
  const name = await concealText(writer, organizationId, server.keys, candidate.name);
  const organization = await loadOrganization(writer, organizationId);
  const node = await findNode(server, writer, candidate.keyThumbprint);
  // Two activations of one new key at the same time: the certificate of the second names a node that lost.
  if (node !== undefined && node.nodeId !== nodeId) {
    return new LatchkeyError('STATE_CONFLICT', 'this node is being activated twice at once', {
      hint: 'try again',
    });
  }
  const opened = await loadCredential(server, writer, enrolment.credential, { nodeId, nowMs });
  const { joinToken } = opened;
  const by = joinToken === undefined ? {} : { joinTokenId: joinToken.tokenId };
  if (opened.license !== undefined)
    server.licenseRate.spend(opened.license.licenseId, 'calls under this license');
  const claim = { nodeId, installation: candidate.installation ?? node?.installation ?? null };
  // Counted for an unknown credential too, so that its answer takes the same work.
  const counted = opened.license ?? NO_LICENSE;
  const seats = await loadSeats(writer, counted.licenseId, counted, claim);
  const license = opened.license && { ...opened.license, seats };
  const decision = decide({
    sealed: server.seal.isSealed,
    node: node !== undefined && comesBack(node, enrolment.credential) ? undefined : node,
    licenses: license === undefined ? [] : [license],
    noLicense: opened.denial,
    image: undefined,
    nowMs,
    nodeTimeMs: enrolment.nodeTimeMs,
    defaultContact: organization.contact,
  });
  if (!decision.allowed) {
    const { code, licenseId } = decision;
    await record({
      target: licenseId ?? 'unknown',
      outcome: 'denied',
      code,
      detail: { name, ...by },
    });
    return denialError(decision);
  }
  await admit(server, writer, enrolment, decision.license, nowMs);
  if (node !== undefined && node.state !== 'ACTIVE') await forgetSession(writer, nodeId);
  if (joinToken !== undefined) await useJoinToken(writer, joinToken, nodeId);
  await record({
    target: decision.license.licenseId,
    outcome: 'allowed',
    detail: {
      ...{ nodeId, name, keyThumbprint: candidate.keyThumbprint, ...by },
      ...(isOverdrawn(decision.license.seats) ? { isOverdrawn: true } : {}),
    },
  });
  const { licenseId, productCode, contact } = decision.license;
  return { licenseId, productCode, contact };
}

/**
 * A retired node enrols anew. One that went back in time is mended by whoever has the license key; a copied one is not,
 * because there that may be the very one who copied it.
 */
function comesBack({ state }: NodeFacts, { kind }: Credential): boolean {
  return state === 'RETIRED' || (state === 'RESTORED' && kind === 'license-key');
}

/** A node that was activated before. */
export interface KnownCandidate extends NodeFacts {
  readonly installation: string | null;
}

/** The node of a key; undefined = there is none. */
export async function findNode(
  server: KeyServer,
  reader: Writer | KeyServer['store']['read'],
  keyThumbprint: string,
): Promise<KnownCandidate | undefined> {
  const row = await reader
    .selectFrom('node')
    .select(['id', 'state', 'installation'])
    .where('organization_id', '=', server.organizationId)
    .where('key_thumbprint', '=', keyThumbprint)
    .executeTakeFirst();
  if (row === undefined) return undefined;
  return { nodeId: row.id, state: row.state, installation: row.installation };
}

/** Makes the applicant a node of the license. */
export async function admit(
  server: KeyServer,
  writer: Writer,
  { candidate, certificate, nodeId }: Applicant,
  license: GrantableLicense,
  nowMs: number,
): Promise<void> {
  const revision = await nextRevision(writer, server.organizationId, nowMs);
  const renewed = {
    name: candidate.name,
    ...(candidate.installation === null ? {} : { installation: candidate.installation }),
    state: 'ACTIVE' as const,
    revision,
    updated_at_ms: nowMs,
    certificate_serial: certificate.serial,
    certificate_expires_at_ms: certificate.expiresAtMs,
  };
  await writer
    .insertInto('node')
    .values({
      id: nodeId,
      organization_id: server.organizationId,
      created_at_ms: nowMs,
      public_jwk: candidate.publicJwk,
      key_thumbprint: candidate.keyThumbprint,
      ...renewed,
    })
    .onConflict((conflict) => conflict.column('id').doUpdateSet(renewed))
    .execute();
  await writer
    .insertInto('license_node')
    .values({ license_id: license.licenseId, node_id: nodeId, created_at_ms: nowMs })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
  const state = nextLicenseState(license.licenseId, license.state, 'activate');
  const begun = beginTerm(license, 'activation', nowMs);
  if (state === license.state && begun === undefined) return;
  await writer
    .updateTable('license')
    .set({ state, epoch: license.epoch + 1, revision, updated_at_ms: nowMs, ...begun })
    .where('id', '=', license.licenseId)
    .execute();
}
