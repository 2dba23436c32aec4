/** Policies. */
import type { Row } from './row.ts';
import type { TermColumns } from './term-columns.ts';

export interface PolicyTable extends Row, TermColumns {
  readonly code: string;
  name: string;
  /** 1 = a customer gets one license under such policies for each product. */
  readonly is_trial: 0 | 1;
}
