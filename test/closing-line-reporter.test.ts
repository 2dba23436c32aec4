import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';

const run = promisify(execFile);
const root = join(import.meta.dirname, '..');

let directory: string;

beforeAll(async () => {
  // Beneath the checkout, where vitest is found.
  await mkdir(join(root, '.cache'), { recursive: true });
  directory = await mkdtemp(join(root, '.cache', 'closing-line-'));
  await writeFile(
    join(directory, 'vitest.config.ts'),
    `import { ClosingLineReporter } from '${join(root, 'test/closing-line-reporter.ts')}';
     export default { test: { reporters: [new ClosingLineReporter()] } };`,
  );
});

afterAll(() => rm(directory, { recursive: true }));

/** The last lines of a run over one file of tests, and its exit status. */
async function closingLines(tests: string): Promise<{ status: number; lines: string[] }> {
  const file = `import { beforeAll, describe, expect, it } from 'vitest';\n${tests}`;
  await writeFile(join(directory, 'some.test.ts'), file);
  const args = [join(root, 'node_modules/vitest/vitest.mjs'), 'run', '--root', directory];
  // In CI a skipped test fails the run, too.
  const env = { ...process.env, CI: undefined };
  const { status, stdout } = await run(process.execPath, args, { env }).then(
    (done) => ({ status: 0, stdout: done.stdout }),
    (error: unknown) => ({ status: 1, stdout: (error as { stdout: string }).stdout }),
  );
  return { status, lines: stdout.trim().split('\n') };
}

test.each([
  ['of tests that pass', `it('a', () => {});`, 0, ['1 passed, 0 failed, 0 skipped']],
  [
    'of a suite without a test',
    `it('a', () => {}); describe('none', () => { it.each([])('b %s', () => {}); });`,
    1,
    ['  some.test.ts: none: No test found in suite none', '', '1 passed, 1 failed, 0 skipped'],
  ],
  [
    'of a suite that is not set up',
    `describe('some', () => { beforeAll(() => { throw new Error('no'); }); it('a', () => {}); });`,
    1,
    ['  some.test.ts: some: no', '', '0 passed, 1 failed, 1 skipped'],
  ],
  [
    'of a file that cannot be read',
    `throw new Error('broken');`,
    1,
    ['  some.test.ts: broken', '', '0 passed, 1 failed, 0 skipped'],
  ],
  [
    'of a test that fails',
    `it('a', () => { throw new Error('wrong'); });`,
    1,
    ['  some.test.ts: a: wrong', '', '0 passed, 1 failed, 0 skipped'],
  ],
])('the closing lines %s count what failed', async (_case, tests, status, lines) => {
  const closing = await closingLines(tests);
  expect(closing.lines.slice(-lines.length)).toEqual(lines);
  expect(closing.status).toBe(status);
});
