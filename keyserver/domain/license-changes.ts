/** What an open revocation stream tells a node: each license that has changed, and what starts get now. */
import type { LatchkeyError } from '#src/base/errors.ts';
import { type Denied, licenseDenial, nodeDenial } from '#src/licensing/decide.ts';
import type { StoredLicenseState } from '#src/licensing/license-state.ts';
import type { NodeIdentity } from './acquire-lease.ts';
import { loadChangedLicenses, loadNode, loadOrganization } from './decision-facts.ts';
import { denialError } from './denial.ts';
import type { KeyServer } from './key-server.ts';

export interface LicenseChange {
  readonly licenseId: string;
  readonly epoch: number;
  readonly state: StoredLicenseState;
  readonly denial: LatchkeyError | null;
  readonly revision: number;
}

export interface ChangesSince {
  readonly changes: readonly LicenseChange[];
  /** Everything up to here has been told. */
  readonly revision: number;
  /** Set when the node itself may not go on; the stream ends with it. */
  readonly nodeDenial: LatchkeyError | null;
}

/** Gives the changes of a node's licenses after a revision; a node that changed itself gets all of them. */
export async function licenseChangesSince(
  server: KeyServer,
  identity: NodeIdentity,
  afterRevision: number,
): Promise<ChangesSince> {
  const { organizationId, store, clock } = server;
  // Read first: a change that comes in between is then told twice rather than never.
  const organization = await loadOrganization(store.read, organizationId);
  const node = await loadNode(store.read, organizationId, identity);
  const refused = errorOrNull(nodeDenial(node, organization.contact));
  if (node === null) return { changes: [], revision: organization.revision, nodeDenial: refused };
  const from = node.revision > afterRevision ? 0 : afterRevision;
  const changed = await loadChangedLicenses(store.read, node.nodeId, from, organization.contact);
  const changes = changed.map(({ license, revision }): LicenseChange => {
    return {
      licenseId: license.licenseId,
      epoch: license.epoch,
      state: license.state,
      denial: refused ?? errorOrNull(licenseDenial(license, clock.nowMs())),
      revision: Math.max(revision, node.revision),
    };
  });
  const revision = Math.max(organization.revision, ...changes.map((change) => change.revision));
  return { changes, revision, nodeDenial: refused };
}

function errorOrNull(denied: Denied | null): LatchkeyError | null {
  return denied === null ? null : denialError(denied);
}
