/** `latchkey node report-usage`: counts what this machine has used of what was sold. */
import { randomUUID } from 'node:crypto';
import { type Command, InvalidArgumentError } from 'commander';
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import { usageReportInputSchema } from '#src/wire/admin/meter.ts';
import type { CommandContext } from '../context.ts';
import { idParser } from '../name-arguments.ts';
import { outputOf } from '../output.ts';
import { type SocketOptions, withAgent, withSocket } from './agent-socket.ts';
import { parseAmount, parseMeterName } from './license-meters.ts';

interface UsageOptions extends SocketOptions {
  readonly license?: string;
  readonly reportId?: string;
}

export function registerNodeUsage(node: Command, context: CommandContext): void {
  withSocket(node.command('report-usage'), context)
    .description('count what was used on this machine, on a meter that the vendor lets nodes report to')
    .argument('<meter>', 'name, as the vendor says it', parseMeterName)
    .argument('<amount>', 'what was used since the report before', parseAmount)
    .option(
      '--license <id>',
      'whose meter it is, where several of this machine have one of that name',
      idParser('lic', 'latchkey node status'),
    )
    .option('--report-id <id>', 'the same report again counts once (default: a new one)', parseReportId)
    .addHelpText(
      'after',
      `
It ends with 0 once the key server has counted it. Without an answer, repeat it with the same --report-id.

Example:
  latchkey node report-usage pages 1200 --report-id "$(date -u +%FT%H)"`,
    )
    .action(async (meter: string, amount: number, options: UsageOptions, command: Command) => {
      const { license: licenseId = '', reportId = randomUUID() } = options;
      const counted = await withAgent(options, (agent) =>
        agent.reportUsage({ licenseId, meter, reportId, amount }),
      ).catch((error: unknown) => {
        throw withReportId(toLatchkeyError(error), reportId);
      });
      outputOf(context, command).result(
        { ...counted, meter, amount, reportId },
        () => `${meter}: ${counted.total} used under license ${counted.licenseId}`,
      );
    });
}

/** Reads the id of a report. */
export function parseReportId(text: string): string {
  if (usageReportInputSchema.shape.reportId.safeParse(text).success) return text;
  throw new InvalidArgumentError('Give up to 128 printable ASCII characters without a space.');
}

/** What was not answered may have been counted; only its id tells. */
function withReportId(error: LatchkeyError, reportId: string): LatchkeyError {
  if (!error.code.startsWith('NET_')) return error;
  const again = `repeat it with --report-id ${reportId}, so that it counts once`;
  return new LatchkeyError(error.code, error.message, {
    hint: error.hint === undefined ? again : `${error.hint}; ${again}`,
    cause: error,
  });
}
