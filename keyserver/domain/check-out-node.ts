/** The node of a check-out: known already, or enrolled with its request. */
import { LatchkeyError } from '#src/base/errors.ts';
import { decide } from '#src/licensing/decide.ts';
import { isOverdrawn } from '#src/licensing/seats.ts';
import { type Applicant, admit, findNode } from './activate.ts';
import type { Change } from './change.ts';
import type { CarrierNode } from './check-out-images.ts';
import { loadNode, loadOrganization } from './decision-facts.ts';
import { denialError } from './denial.ts';
import type { KeyServer } from './key-server.ts';
import { type GrantableLicense, loadLicense, loadNodeLicenses } from './license-facts.ts';
import { forgetSession } from './node-sessions.ts';
import { loadSeats } from './seat-facts.ts';

/**
 * Gives the node a seat of the license if it has none yet, by the rules of an activation.
 * @throws LatchkeyError DENIED_*, STATE_CONFLICT
 */
export async function admitCarrier(
  server: KeyServer,
  change: Change,
  licenseId: string,
  applicant: Applicant,
): Promise<{ node: CarrierNode; license: GrantableLicense }> {
  const { writer, organizationId, nowMs } = change;
  const { nodeId, candidate, certificate } = applicant;
  const { contact } = await loadOrganization(writer, organizationId);
  const known = await findNode(server, writer, candidate.keyThumbprint);
  if (known !== undefined && known.nodeId !== nodeId) {
    throw new LatchkeyError('STATE_CONFLICT', 'this node is being enrolled twice at once', {
      hint: 'try again',
    });
  }
  const before = await requireLicense(change, licenseId);
  const claim = { nodeId, installation: candidate.installation ?? known?.installation ?? null };
  const license = { ...before, seats: await loadSeats(writer, licenseId, before, claim) };
  const isNew = known === undefined || known.state === 'RETIRED';
  const decision = decide({
    ...{ sealed: false, node: isNew ? undefined : known, licenses: [license], image: undefined },
    ...{ nowMs, nodeTimeMs: nowMs, defaultContact: contact },
  });
  if (!decision.allowed) throw denialError(decision);
  if (isNew || !license.seats.heldByThisNode) {
    await admit(server, writer, applicant, decision.license, nowMs);
    if (known?.state === 'RETIRED') await forgetSession(writer, nodeId);
    const name = await change.conceal(candidate.name);
    const { keyThumbprint } = candidate;
    await change.audit({
      action: 'node.activate',
      target: licenseId,
      detail: {
        ...{ nodeId, name, keyThumbprint, by: 'check-out' },
        ...(isOverdrawn(license.seats) ? { isOverdrawn: true } : {}),
      },
    });
  }
  const node = await loadNode(writer, organizationId, { nodeId, keyThumbprint: candidate.keyThumbprint });
  if (node === null) throw new TypeError('a node was admitted and is not there');
  return {
    node: { ...node, certificate: isNew ? certificate : null },
    license: await seatedLicense(change, licenseId, nodeId),
  };
}

async function requireLicense({ writer }: Change, licenseId: string): Promise<GrantableLicense> {
  const license = await loadLicense(writer, licenseId);
  if (license === undefined) throw new TypeError('a license that was found is gone');
  return license;
}

/** As a start of the node sees it: its epoch is another one when this was its first node, and running nodes are counted. */
async function seatedLicense(
  { writer, nowMs }: Change,
  licenseId: string,
  nodeId: string,
): Promise<GrantableLicense> {
  const licenses = await loadNodeLicenses(writer, nodeId, nowMs);
  const license = licenses.find((candidate) => candidate.licenseId === licenseId);
  if (license === undefined) throw new TypeError('a node was admitted and holds no seat');
  return license;
}
