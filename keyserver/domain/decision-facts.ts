/** Loads what the license decision looks at, inside the transaction that acts on it. */
import type { ImageFacts, NodeFacts } from '#src/licensing/decide.ts';
import type { NodeSession } from '#src/licensing/node-chain.ts';
import type { NodeState } from '#src/licensing/node-state.ts';
import { preparedQuery, preparedSetQuery } from '../db/prepared-query.ts';
import type { Reader } from '../db/store.ts';
import { ANSWERED_COLUMNS, type AnsweredLease, toAnswered } from './answered-lease.ts';
import { fromCodeColumn } from './code-list.ts';
import { SESSION_COLUMNS, toSession } from './session-row.ts';

export interface KnownNode extends NodeFacts {
  readonly keyThumbprint: string;
  readonly publicJwk: string;
  /** Counts changes of the node itself: bans. */
  readonly revision: number;
}

/** The node of a certificate: its id and its key must both be the ones we know; null = unknown. */
export async function loadNode(
  reader: Reader,
  organizationId: string,
  identity: { readonly nodeId: string; readonly keyThumbprint: string },
): Promise<KnownNode | null> {
  const node = await loadNodeById(reader, organizationId, identity.nodeId);
  return node?.keyThumbprint === identity.keyThumbprint ? node : null;
}

/** A node that has yet to prove its key; null = unknown. */
export async function loadNodeById(
  reader: Reader,
  organizationId: string,
  nodeId: string,
): Promise<KnownNode | null> {
  const [row] = await nodeRow(reader, { organizationId, nodeId });
  return row === undefined ? null : toNode(row);
}

const nodeRow = preparedQuery((reader, node: { readonly organizationId: string; readonly nodeId: string }) =>
  reader
    .selectFrom('node')
    .select([
      'id as node_id',
      'state as node_state',
      'key_thumbprint',
      'public_jwk',
      'revision as node_revision',
    ])
    .where('organization_id', '=', node.organizationId)
    .where('id', '=', node.nodeId),
);

/** A node and how it was heard last. */
export interface WatchingNode {
  readonly node: KnownNode;
  readonly session: NodeSession | undefined;
}

/** The nodes of these ids that there are. */
export async function loadWatchingNodes(
  reader: Reader,
  organizationId: string,
  nodeIds: readonly string[],
): Promise<Map<string, WatchingNode>> {
  const found = new Map<string, WatchingNode>();
  for (const row of await watchingRows(reader, nodeIds)) {
    const node = row.organization_id === organizationId ? toNode(row) : null;
    if (node !== null) found.set(node.nodeId, { node, session: toSession(row) });
  }
  return found;
}

const watchingRows = preparedSetQuery((reader, nodeIds) =>
  reader
    .selectFrom('node')
    .leftJoin('node_session', 'node_session.node_id', 'node.id')
    .select([
      'node.organization_id',
      'node.id as node_id',
      'node.state as node_state',
      'node.key_thumbprint',
      'node.public_jwk',
      'node.revision as node_revision',
      ...SESSION_COLUMNS,
    ])
    .where('node.id', 'in', nodeIds),
);

export interface OrganizationFacts {
  readonly contact: string;
  readonly revision: number;
}

export async function loadOrganization(reader: Reader, organizationId: string): Promise<OrganizationFacts> {
  const [row] = await organizationRow(reader, { organizationId });
  if (row === undefined) throw new TypeError('the database has lost its organization');
  return row;
}

const organizationRow = preparedQuery((reader, organization: { readonly organizationId: string }) =>
  reader
    .selectFrom('organization')
    .select(['contact', 'revision'])
    .where('id', '=', organization.organizationId),
);

export interface KnownImage extends ImageFacts {
  /** The image key as stored; undefined when there is none. */
  readonly wrappedKey: Uint8Array | undefined;
  /** Signed envelope of the release; undefined when there is none. */
  readonly statement: string | undefined;
}

/**
 * An image that a key opens, always the same one of its release; '' = none is registered. A release is decided as a
 * whole, so any of its images stands for it.
 */
export async function loadImageOfKey(
  reader: Reader,
  organizationId: string,
  imageKeyId: string,
): Promise<string> {
  const [row] = await imageOfKeyRow(reader, { organizationId, imageKeyId });
  return row?.image_digest ?? '';
}

const imageOfKeyRow = preparedQuery(
  (reader, key: { readonly organizationId: string; readonly imageKeyId: string }) =>
    reader
      .selectFrom('release')
      .innerJoin('release_image', 'release_image.release_id', 'release.id')
      .select('release_image.image_digest')
      .where('release.organization_id', '=', key.organizationId)
      .where('release.image_key_id', '=', key.imageKeyId)
      .orderBy('release_image.image_digest')
      .limit(1),
);

/** What a start is about. */
export interface StartQuery {
  readonly nodeId: string;
  /** Of the caller's certificate; null = somebody else asks about the node. */
  readonly keyThumbprint: string | null;
  readonly imageDigest: string;
  /** Null = the one that the release was encrypted with. */
  readonly imageKeyId: string | null;
  /** Hex. */
  readonly nonce: string;
}

export interface StartFacts {
  readonly organization: OrganizationFacts;
  readonly node: KnownNode | null;
  readonly image: KnownImage;
  /** The lease that this node has got for this nonce; undefined = none. */
  readonly answered: AnsweredLease | undefined;
  /** Undefined for a node that never opened one. */
  readonly session: NodeSession | undefined;
}

/** Everything about a start but the licenses, in one query: it runs for every start of every container. */
const startRow = preparedQuery((reader, query: StartQuery & { readonly organizationId: string }) =>
  reader
    .selectFrom('organization')
    .leftJoin('node', (join) => {
      const ofId = join
        .onRef('node.organization_id', '=', 'organization.id')
        .on('node.id', '=', query.nodeId);
      const { keyThumbprint } = query;
      return keyThumbprint === null ? ofId : ofId.on('node.key_thumbprint', '=', keyThumbprint);
    })
    .leftJoin('release_image', (join) =>
      join
        .onRef('release_image.organization_id', '=', 'organization.id')
        .on('release_image.image_digest', '=', query.imageDigest),
    )
    .leftJoin('release', 'release.id', 'release_image.release_id')
    .leftJoin('image_key', (join) => {
      const ofOrganization = join.onRef('image_key.organization_id', '=', 'organization.id');
      const { imageKeyId } = query;
      return imageKeyId === null
        ? ofOrganization.onRef('image_key.id', '=', 'release.image_key_id')
        : ofOrganization.on('image_key.id', '=', imageKeyId);
    })
    .leftJoin('lease', (join) =>
      join.onRef('lease.node_id', '=', 'node.id').on('lease.nonce', '=', query.nonce),
    )
    .leftJoin('node_session', 'node_session.node_id', 'node.id')
    .select(SESSION_COLUMNS)
    .select(ANSWERED_COLUMNS)
    .select([
      'organization.contact',
      'organization.revision',
      'node.id as node_id',
      'node.state as node_state',
      'node.key_thumbprint',
      'node.public_jwk',
      'node.revision as node_revision',
      'release.product_id as release_product_id',
      'release.state as release_state',
      'release.version as release_version',
      'release.created_at_ms as release_created_at_ms',
      'release.image_key_id as release_image_key_id',
      'release.statement as release_statement',
      'release.entitlement_codes as release_entitlement_codes',
      'image_key.product_id as key_product_id',
      'image_key.state as key_state',
      'image_key.wrapped_key',
    ])
    .where('organization.id', '=', query.organizationId),
);

export async function loadStart(
  reader: Reader,
  organizationId: string,
  query: StartQuery,
): Promise<StartFacts> {
  const [row] = await startRow(reader, { organizationId, ...query });
  if (row === undefined) throw new TypeError('the database has lost its organization');
  const { imageDigest } = query;
  const imageKeyId = query.imageKeyId ?? row.release_image_key_id ?? '';
  return {
    organization: { contact: row.contact, revision: row.revision },
    node: toNode(row),
    image: {
      imageDigest,
      imageKeyId,
      release:
        row.release_product_id === null || row.release_state === null
          ? null
          : {
              productId: row.release_product_id,
              state: row.release_state,
              hasStatement: row.release_statement !== null,
              version: row.release_version ?? '',
              publishedAtMs: row.release_created_at_ms ?? Infinity,
              requiredEntitlements: fromCodeColumn(row.release_entitlement_codes),
            },
      imageKey:
        row.key_product_id === null
          ? null
          : {
              productId: row.key_product_id,
              usable: row.key_state === 'ACTIVE',
              opensRelease: row.release_image_key_id === imageKeyId,
            },
      wrappedKey: row.wrapped_key ?? undefined,
      statement: row.release_statement ?? undefined,
    },
    answered: toAnswered(row),
    session: toSession(row),
  };
}

interface NodeColumns {
  readonly node_id: string | null;
  readonly node_state: NodeState | null;
  readonly key_thumbprint: string | null;
  readonly public_jwk: string | null;
  readonly node_revision: number | null;
}

function toNode(row: NodeColumns): KnownNode | null {
  const { node_id: nodeId, node_state: state, key_thumbprint: keyThumbprint, public_jwk: publicJwk } = row;
  if (nodeId === null || state === null || keyThumbprint === null || publicJwk === null) return null;
  return { nodeId, state, keyThumbprint, publicJwk, revision: row.node_revision ?? 0 };
}
