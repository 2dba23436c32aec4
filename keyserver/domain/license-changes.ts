/** What an open revocation stream tells a node: each license that has changed, and what starts get now. */
import type { LatchkeyError } from '#src/base/errors.ts';
import { type Denied, licenseDenial, nodeDenial } from '#src/licensing/decide.ts';
import { type ChainPosition, isNewest } from '#src/licensing/node-chain.ts';
import type { StoredLicenseState } from '#src/licensing/license-state.ts';
import type { NodeIdentity } from './acquire-lease.ts';
import type { KnownNode, OrganizationFacts, WatchingNode } from './decision-facts.ts';
import { denialError } from './denial.ts';
import type { HeldLicense } from './license-facts.ts';
import { serverRollback, sessionStale } from './node-sessions.ts';

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

/** Who asks for changes, and what he knows already. */
export interface ChangeQuestion {
  readonly identity: NodeIdentity;
  readonly afterRevision: number;
  readonly position: ChainPosition | undefined;
}

/** What is known of those who ask, of one moment. */
export interface ChangeFacts {
  readonly organization: OrganizationFacts;
  readonly nodes: ReadonlyMap<string, WatchingNode>;
  /** Of each node, those of its licenses that are news to somebody who asks. */
  readonly licenses: ReadonlyMap<string, readonly HeldLicense[]>;
  readonly nowMs: number;
}

/**
 * Gives the changes of a node's licenses after a revision. All of them get a node that changed itself. One that
 * has seen a later revision than ours gets none: then this server was restored from a backup. Pure.
 */
export function changesSince(
  { organization, nodes, licenses, nowMs }: ChangeFacts,
  { identity, afterRevision, position }: ChangeQuestion,
): ChangesSince {
  const known = nodes.get(identity.nodeId);
  const node = known?.node.keyThumbprint === identity.keyThumbprint ? known.node : null;
  const { revision } = organization;
  const refused = errorOrNull(nodeDenial(node, organization.contact));
  if (node === null) return { changes: [], revision, nodeDenial: refused };
  if (refused === null) {
    const refusal =
      afterRevision > revision
        ? serverRollback(organization.contact)
        : isNewest(known?.session, position)
          ? undefined
          : sessionStale();
    if (refusal !== undefined) return { changes: [], revision, nodeDenial: refusal };
  }
  const from = newsBegin(node, afterRevision);
  const changed = (licenses.get(node.nodeId) ?? [])
    .filter((held) => held.revision > from)
    .sort((left, right) => left.revision - right.revision);
  const resumeRevisions = resumeRevisionsOf(
    changed.map((change) => Math.max(change.revision, node.revision)),
    revision,
  );
  const changes = changed.map(({ license }, index): LicenseChange => {
    return {
      licenseId: license.licenseId,
      epoch: license.epoch,
      state: license.state,
      denial: refused ?? errorOrNull(licenseDenial(license, nowMs)),
      revision: resumeRevisions[index] ?? revision,
    };
  });
  return { changes, revision, nodeDenial: refused };
}

/** The revision after which changes of licenses are news to a node: of one that changed itself all are. */
export function newsBegin(node: KnownNode, afterRevision: number): number {
  return node.revision > afterRevision ? 0 : afterRevision;
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
