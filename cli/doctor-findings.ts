/** What a doctor has found, shown; bad findings are an error. */
import type { Command } from 'commander';
import { LatchkeyError } from '#src/base/errors.ts';
import type { CommandContext } from './context.ts';
import { escapeLine, outputOf } from './output.ts';

export interface Finding {
  readonly id: string;
  readonly severity: keyof typeof LABELS;
  readonly detail: string;
  readonly mend?: string;
}

const LABELS = { ok: 'ok  ', info: 'info', warning: 'WARN', bad: 'BAD ' } as const;

/** @throws LatchkeyError CONFIG_INVALID when one is bad */
export function showFindings(context: CommandContext, command: Command, findings: readonly Finding[]): void {
  outputOf(context, command).result({ findings }, () => findings.map(describe).join('\n'));
  const bad = findings.filter(({ severity }) => severity === 'bad');
  if (bad.length === 0) return;
  throw new LatchkeyError('CONFIG_INVALID', `${bad.length} of ${findings.length} checks found something`, {
    hint: `first: ${bad[0]?.mend ?? bad[0]?.detail ?? ''}`,
  });
}

function describe({ id, severity, detail, mend }: Finding): string {
  const advice = mend === undefined ? '' : `\n      ${escapeLine(mend)}`;
  return `${LABELS[severity]}  ${id}: ${escapeLine(detail)}${advice}`;
}
