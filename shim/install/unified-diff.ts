/** What changes in a file, as `diff --unified` shows it. */

const CONTEXT_LINES = 3;

interface Step {
  readonly sign: ' ' | '-' | '+';
  readonly line: string;
}

/**
 * The unified diff of two texts; empty when they are the same. For configuration files: it takes time and memory in
 * proportion to the product of their changed lines.
 * @param before undefined when there is no such file yet
 */
export function unifiedDiff(path: string, before: string | undefined, after: string): string {
  if (before === after) return '';
  const steps = diffSteps(splitLines(before ?? ''), splitLines(after));
  const header = [`--- ${before === undefined ? '/dev/null' : path}`, `+++ ${path}`];
  return [...header, ...hunks(steps)].map((line) => `${line}\n`).join('');
}

function splitLines(text: string): string[] {
  if (text === '') return [];
  return text.endsWith('\n')
    ? text.slice(0, -1).split('\n')
    : [...text.split('\n').slice(0, -1), `${text.split('\n').at(-1) ?? ''} (no end of line)`];
}

/** Longest common subsequence of what is left without the common beginning and end. */
function diffSteps(before: readonly string[], after: readonly string[]): Step[] {
  let start = 0;
  while (start < Math.min(before.length, after.length) && before[start] === after[start]) start += 1;
  let tail = 0;
  const most = Math.min(before.length, after.length) - start;
  while (tail < most && before[before.length - 1 - tail] === after[after.length - 1 - tail]) tail += 1;
  const left = before.slice(start, before.length - tail);
  const right = after.slice(start, after.length - tail);
  const same = (lines: readonly string[]): Step[] => lines.map((line) => ({ sign: ' ', line }));
  return [
    ...same(before.slice(0, start)),
    ...middleSteps(left, right),
    ...same(before.slice(before.length - tail)),
  ];
}

function middleSteps(left: readonly string[], right: readonly string[]): Step[] {
  const width = right.length + 1;
  const lengths = new Uint32Array((left.length + 1) * width);
  const at = (row: number, column: number) => lengths[row * width + column] ?? 0;
  for (let row = left.length - 1; row >= 0; row -= 1) {
    for (let column = right.length - 1; column >= 0; column -= 1) {
      lengths[row * width + column] =
        left[row] === right[column]
          ? at(row + 1, column + 1) + 1
          : Math.max(at(row + 1, column), at(row, column + 1));
    }
  }
  const steps: Step[] = [];
  let row = 0;
  let column = 0;
  while (row < left.length || column < right.length) {
    if (row < left.length && column < right.length && left[row] === right[column]) {
      steps.push({ sign: ' ', line: left[row] ?? '' });
      row += 1;
      column += 1;
    } else if (column === right.length || (row < left.length && at(row + 1, column) >= at(row, column + 1))) {
      steps.push({ sign: '-', line: left[row] ?? '' });
      row += 1;
    } else {
      steps.push({ sign: '+', line: right[column] ?? '' });
      column += 1;
    }
  }
  return steps;
}

function hunks(steps: readonly Step[]): string[] {
  const lines: string[] = [];
  const isNear = steps.map((_, index) =>
    steps
      .slice(Math.max(0, index - CONTEXT_LINES), index + CONTEXT_LINES + 1)
      .some(({ sign }) => sign !== ' '),
  );
  let oldLine = 1;
  let newLine = 1;
  for (let index = 0; index < steps.length;) {
    let end = index;
    while (end < steps.length && isNear[end] === isNear[index]) end += 1;
    const part = steps.slice(index, end);
    const oldCount = part.filter(({ sign }) => sign !== '+').length;
    const newCount = part.filter(({ sign }) => sign !== '-').length;
    if (isNear[index] === true) {
      lines.push(`@@ -${range(oldLine, oldCount)} +${range(newLine, newCount)} @@`);
      lines.push(...part.map(({ sign, line }) => `${sign}${line}`));
    }
    oldLine += oldCount;
    newLine += newCount;
    index = end;
  }
  return lines;
}

function range(line: number, count: number): string {
  return `${count === 0 ? line - 1 : line},${count}`;
}
