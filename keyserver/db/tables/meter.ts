/** What was used under licenses. */
import type { Row } from './row.ts';

export interface MeterTable extends Row {
  readonly license_id: string;
  readonly name: string;
  /** The sum of all reports; it only grows. */
  used: number;
  /** Null = without a limit. */
  max_used: number | null;
  /** 1 = nodes of the license may report to it. */
  is_open_to_nodes: 0 | 1;
}

/** Kept as long as its meter: a report that comes again is known. */
export interface UsageReportTable {
  readonly id: string;
  readonly license_id: string;
  readonly meter: string;
  /** Chosen by whoever reports; of a node with its id and a colon before it. */
  readonly report_id: string;
  readonly amount: number;
  /** Of the meter, with this report. */
  readonly total: number;
  readonly reported_at_ms: number;
}
