/** Nodes and what is known of each. */
import type { NodeState } from '#src/licensing/node-state.ts';
import type { Row } from './row.ts';

export interface NodeTable extends Row {
  name: string;
  state: NodeState;
  readonly public_jwk: string;
  /** RFC 7638 thumbprint of the node key: what a node is. */
  readonly key_thumbprint: string;
  certificate_serial: string;
  certificate_expires_at_ms: number;
  /** Where the node belongs, as it said at its activation: a cluster's id or a name; null when it did not say. */
  installation: string | null;
  /** The highest change of a license that the node has said to act upon, and when it did; null = none yet. */
  acknowledged_revision: number | null;
  acknowledged_at_ms: number | null;
}

/** How a node was heard last; see src/licensing/node-chain.ts. */
export interface NodeSessionTable {
  readonly node_id: string;
  sequence: number;
  token: string;
  previous_token: string;
  opened_by: string;
  machine: string;
  boot: string;
  boot_time_ms: number;
  counter: number;
  window: number;
}

/** The newest word of a node about a license that it refuses starts under. Times of the node are its own. */
export interface PlaintextReportTable {
  readonly license_id: string;
  readonly node_id: string;
  epoch: number;
  denial_code: string;
  starts_refused_at_ms: number;
  running_containers: number;
  plaintext_layers: number;
  /** Null while there is plaintext or a running container. */
  plaintext_gone_at_ms: number | null;
  reported_at_ms: number;
}
