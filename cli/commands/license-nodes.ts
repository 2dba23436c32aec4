/** `latchkey license nodes`: where a license is, and what is left of it there after a refusal. */
import type { Command } from 'commander';
import type { License } from '#src/wire/admin/license.ts';
import type { LicenseNode } from '#src/wire/admin/node.ts';
import { adminClientOf, withAdminOptions } from '../admin-options.ts';
import type { CommandContext } from '../context.ts';
import { idParser } from '../name-arguments.ts';
import { formatTable, outputOf } from '../output.ts';
import { formatInstant } from '../time-arguments.ts';

export function registerLicenseNodes(license: Command, context: CommandContext): void {
  withAdminOptions(license.command('nodes'))
    .description('list the nodes of a license, and what each reports after a refusal')
    .argument('<id>', 'of the license', idParser('lic', 'latchkey license list'))
    .addHelpText('after', '\nExample:\n  latchkey license nodes lic_0191b2f0-...')
    .action(async (id: string, _options: unknown, command: Command) => {
      const client = await adminClientOf(context, command);
      const [shown, nodes] = await Promise.all([client.license(id), client.licenseNodes(id)]);
      outputOf(context, command).result(
        nodes,
        () =>
          `${refusalSummary(shown, nodes, context.clock.nowMs()) ?? `${shown.state.toLowerCase()}; ${nodes.length} nodes`}\n${nodeTable(nodes)}`,
      );
    });
}

/**
 * `revoked at revision 41; 2 of 3 nodes have acknowledged, 1 plaintext gone; 1 silent, can start until 2026-12-01 14:00:00Z`;
 * undefined for a license that is in force.
 */
export function refusalSummary(
  license: License,
  nodes: readonly LicenseNode[],
  nowMs: number,
): string | undefined {
  const reports = nodes.flatMap(({ report }) => (report === null ? [] : [report]));
  const isOver = license.state === 'EXPIRED' && license.expirationStrategy === 'revoke-access';
  const isRefused = isOver || ['SUSPENDED', 'REVOKED'].includes(license.state);
  if (!isRefused && reports.length === 0) return undefined;
  const gone = reports.filter(({ plaintextGoneAtMs }) => plaintextGoneAtMs !== null).length;
  const noun = nodes.length === 1 ? 'node has' : 'nodes have';
  const acknowledged = nodes.filter(({ hasAcknowledged }) => hasAcknowledged).length;
  const state = `${license.state.toLowerCase()} at revision ${license.revision}`;
  const ends = nodes.flatMap(({ canStartUntilMs }) =>
    canStartUntilMs !== null && canStartUntilMs > nowMs ? [canStartUntilMs] : [],
  );
  const silent =
    ends.length === 0 ? '' : `; ${ends.length} silent, can start until ${formatInstant(Math.max(...ends))}`;
  return `${state}; ${acknowledged} of ${nodes.length} ${noun} acknowledged, ${gone} plaintext gone${silent}`;
}

function nodeTable(nodes: readonly LicenseNode[]): string {
  return formatTable(
    [
      'NODE',
      'NAME',
      'STATE',
      'ACKNOWLEDGED',
      'STARTS REFUSED',
      'CAN START UNTIL',
      'RUNNING',
      'PLAINTEXT',
      'LAST CONTACT',
    ],
    nodes.map(({ id, name, state, lastContactMs, canStartUntilMs, report, ...node }) => [
      id,
      name,
      state,
      acknowledgedText(node),
      report === null ? '-' : formatInstant(report.startsRefusedAtMs),
      canStartUntilMs === null ? '-' : formatInstant(canStartUntilMs),
      report === null ? '-' : String(report.runningContainers),
      plaintextText(report),
      lastContactMs === null ? 'never' : formatInstant(lastContactMs),
    ]),
  );
}

function acknowledgedText({
  hasAcknowledged,
  acknowledgedRevision,
}: Pick<LicenseNode, 'hasAcknowledged' | 'acknowledgedRevision'>): string {
  if (acknowledgedRevision === null) return hasAcknowledged ? 'by report' : '-';
  return hasAcknowledged ? `revision ${acknowledgedRevision}` : `revision ${acknowledgedRevision}, older`;
}

function plaintextText(report: LicenseNode['report']): string {
  if (report === null) return 'no report';
  if (report.plaintextGoneAtMs !== null) return `gone ${formatInstant(report.plaintextGoneAtMs)}`;
  return `${report.plaintextLayers} layers`;
}
