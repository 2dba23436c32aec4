/** What the doctor says: one thing that it has looked at. */

/** `bad`: something does not work or is not protected; `warning`: it will not, or may not; `info`: worth knowing. */
export type Severity = 'ok' | 'info' | 'warning' | 'bad';

export interface Finding {
  /** Stays the same from version to version, so that scripts can look for it: `swap-on`. */
  readonly id: string;
  readonly severity: Severity;
  /** What is so. */
  readonly detail: string;
  /** What to do about it; missing where there is nothing to do. */
  readonly mend?: string;
}

export function ok(id: string, detail: string): Finding {
  return { id, severity: 'ok', detail };
}

export function fault(id: string, severity: Exclude<Severity, 'ok'>, detail: string, mend?: string): Finding {
  return { id, severity, detail, ...(mend === undefined ? {} : { mend }) };
}
