/** What every row has. */

export interface Row {
  readonly id: string;
  readonly organization_id: string;
  /** The organization's revision at the last change of this row. */
  revision: number;
  readonly created_at_ms: number;
  updated_at_ms: number;
}
