/** Ends a run with what holds on which containerd, and with its totals on one line; in CI a skipped test fails the run, because every part is there. */
import type { Reporter, TestModule } from 'vitest/node';
import { type TestOutcome, versionMatrix } from './version-matrix.ts';

export class ClosingLineReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], errors: readonly unknown[]): void {
    let passed = 0;
    let failed = errors.length;
    const skipped: string[] = [];
    const outcomes: TestOutcome[] = [];
    for (const testModule of modules) {
      if (testModule.errors().length > 0) failed += 1;
      for (const test of testModule.children.allTests()) {
        const { state } = test.result();
        outcomes.push({ fullName: test.fullName, state });
        if (state === 'passed') passed += 1;
        else if (state === 'failed') failed += 1;
        else skipped.push(`${testModule.moduleId}: ${test.fullName}`);
      }
    }
    for (const line of versionMatrix(outcomes)) process.stdout.write(`${line}\n`);
    if (process.env['CI'] !== undefined && skipped.length > 0) {
      process.stdout.write(`skipped in CI, where nothing may be:\n  ${skipped.join('\n  ')}\n`);
      process.exitCode = 1;
    }
    process.stdout.write(`\n${passed} passed, ${failed} failed, ${skipped.length} skipped\n`);
  }
}
