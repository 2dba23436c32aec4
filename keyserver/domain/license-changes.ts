/** What an open revocation stream tells a node: each license that has changed, and what starts get now. */
import type { LatchkeyError } from '#src/base/errors.ts';
import { type Denied, licenseDenial, nodeDenial } from '#src/licensing/decide.ts';
import { type ChainPosition, isNewest } from '#src/licensing/node-chain.ts';
import type { StoredLicenseState } from '#src/licensing/license-state.ts';
import type { Reader } from '../db/store.ts';
import type { NodeIdentity } from './acquire-lease.ts';
import { loadNode, loadOrganization } from './decision-facts.ts';
import { denialError } from './denial.ts';
import type { KeyServer } from './key-server.ts';
import { serverRollback, sessionStale } from './node-sessions.ts';
import { loadSession } from './session-row.ts';
import { loadChangedLicenses } from './license-facts.ts';

export interface LicenseChange {
  readonly licenseId: string;
  readonly epoch: number;
  readonly state: StoredLicenseState;
  readonly denial: LatchkeyError | null;
  /** Whoever has heard this change and those before it has missed nothing up to here. */
  readonly revision: number;
}

export interface ChangesSince {
  /** The oldest first. */
  readonly changes: readonly LicenseChange[];
  /** Everything up to here has been told. */
  readonly revision: number;
  /** Set when the node itself may not go on, or not like this; the stream ends with it. */
  readonly nodeDenial: LatchkeyError | null;
}

/**
 * Gives the changes of a node's licenses after a revision. All of them get a node that changed itself. One that
 * has seen a later revision than ours gets none: then this server was restored from a backup.
 */
export function licenseChangesSince(
  server: KeyServer,
  identity: NodeIdentity,
  afterRevision: number,
  position: ChainPosition | undefined,
): Promise<ChangesSince> {
  // One transaction, so that the revision and the changes are of the same moment.
  return server.store.read
    .transaction()
    .execute((reader) => readChangesSince(server, reader, identity, afterRevision, position));
}

async function readChangesSince(
  { organizationId, clock }: KeyServer,
  reader: Reader,
  identity: NodeIdentity,
  afterRevision: number,
  position: ChainPosition | undefined,
): Promise<ChangesSince> {
  const organization = await loadOrganization(reader, organizationId);
  const node = await loadNode(reader, organizationId, identity);
  const { revision } = organization;
  const refused = errorOrNull(nodeDenial(node, organization.contact));
  if (node === null) return { changes: [], revision, nodeDenial: refused };
  if (refused === null) {
    const refusal =
      afterRevision > revision
        ? serverRollback(organization.contact)
        : isNewest(await loadSession(reader, node.nodeId), position)
          ? undefined
          : sessionStale();
    if (refusal !== undefined) return { changes: [], revision, nodeDenial: refusal };
  }
  const from = node.revision > afterRevision ? 0 : afterRevision;
  const changed = await loadChangedLicenses(reader, node.nodeId, from);
  const resumeRevisions = resumeRevisionsOf(
    changed.map((change) => Math.max(change.revision, node.revision)),
    revision,
  );
  const changes = changed.map(({ license }, index): LicenseChange => {
    return {
      licenseId: license.licenseId,
      epoch: license.epoch,
      state: license.state,
      denial: refused ?? errorOrNull(licenseDenial(license, clock.nowMs())),
      revision: resumeRevisions[index] ?? revision,
    };
  });
  return { changes, revision, nodeDenial: refused };
}

/**
 * After which revision a watcher goes on that was cut off behind each change. One revision can cover many licenses,
 * so a change stays below the next one until that has been told too.
 * @param revisions of the changes, ascending
 * @param current everything up to it is told with the last change
 */
export function resumeRevisionsOf(revisions: readonly number[], current: number): number[] {
  return revisions.map((revision, index) => {
    const next = revisions[index + 1];
    return next === undefined ? current : Math.min(revision, next - 1);
  });
}

function errorOrNull(denied: Denied | null): LatchkeyError | null {
  return denied === null ? null : denialError(denied);
}
