/** Products, their releases and the image keys of those. */
import type { Row } from './row.ts';

export interface ProductTable extends Row {
  readonly code: string;
  name: string;
  contact: string | null;
}

export interface ReleaseTable extends Row {
  readonly product_id: string;
  readonly repository: string;
  readonly version: string;
  readonly image_key_id: string;
  state: 'PUBLISHED' | 'YANKED';
  /** Signed envelope (DSSE, JSON) that says what the release is; null for one registered before there were any. */
  statement: string | null;
  /** Codes of the features that a license must hold, with spaces between them; null = none. */
  readonly entitlement_codes: string | null;
}

/** One row per manifest of a release: index and platforms. */
export interface ReleaseImageTable {
  readonly organization_id: string;
  readonly image_digest: string;
  readonly release_id: string;
}

export interface ImageKeyTable extends Row {
  readonly product_id: string;
  /** Empty when it is destroyed. */
  wrapped_key: Uint8Array;
  /** PENDING: made here for a release that is not registered yet. Only an ACTIVE one opens anything. */
  state: 'PENDING' | 'ACTIVE' | 'DESTROY_SCHEDULED' | 'DESTROYED';
  /** When the wrapped key goes or went; null unless its destruction is scheduled or done. */
  destroy_at_ms: number | null;
}
