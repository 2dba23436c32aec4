/** What holds on which containerd, as a table: one row for each test that runs on several. */

export interface TestOutcome {
  /** With its groups; the one that names the containerd says ` on containerd VERSION`. */
  readonly fullName: string;
  readonly state: 'passed' | 'failed' | 'skipped' | 'pending';
}

const VERSION_PATTERN = / on containerd (\d+(?:\.\d+)?)(?:: needs [^>]*?(?= >))?/;
const MARKS = { passed: 'ok', failed: 'FAILED', skipped: 'skipped', pending: 'skipped' } as const;

/** Pure: the table's lines; none when no test names a containerd. */
export function versionMatrix(outcomes: readonly TestOutcome[]): string[] {
  const rows = new Map<string, Map<string, TestOutcome['state']>>();
  const versions = new Set<string>();
  for (const { fullName, state } of outcomes) {
    const version = VERSION_PATTERN.exec(fullName)?.[1];
    if (version === undefined) continue;
    const name = fullName.replace(VERSION_PATTERN, '');
    versions.add(version);
    rows.set(name, (rows.get(name) ?? new Map<string, TestOutcome['state']>()).set(version, state));
  }
  const columns = [...versions].sort((left, right) => Number(left) - Number(right));
  if (columns.length === 0) return [];
  const line = (cells: readonly string[], name: string): string =>
    `${cells.map((cell) => cell.padEnd(8)).join('')}${name}`;
  return [
    line(columns, 'on containerd'),
    ...[...rows].map(([name, states]) =>
      line(
        columns.map((version) => {
          const state = states.get(version);
          return state === undefined ? '-' : MARKS[state];
        }),
        name,
      ),
    ),
  ];
}
