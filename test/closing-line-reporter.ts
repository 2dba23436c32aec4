/** Ends a run with what holds on which containerd, what failed, and its totals on one line; in CI a skipped test fails the run, because every part is there. */
import { inspect } from 'node:util';
import type { Reporter, TestModule } from 'vitest/node';
import { type TestOutcome, versionMatrix } from './version-matrix.ts';

export class ClosingLineReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], errors: readonly unknown[]): void {
    let passed = 0;
    let failed = errors.length;
    const failures: string[] = errors.map((error) => `outside of a test: ${firstLine(error)}`);
    const skipped: string[] = [];
    const outcomes: TestOutcome[] = [];
    for (const testModule of modules) {
      const [moduleError] = testModule.errors();
      if (moduleError !== undefined) {
        failed += 1;
        failures.push(`${testModule.relativeModuleId}: ${firstLine(moduleError)}`);
      }
      for (const suite of testModule.children.allSuites()) {
        // Before or after all tests, or without any.
        for (const error of suite.errors()) {
          failed += 1;
          failures.push(`${testModule.relativeModuleId}: ${suite.fullName}: ${firstLine(error)}`);
        }
      }
      for (const test of testModule.children.allTests()) {
        const { state, errors: testErrors } = test.result();
        outcomes.push({ fullName: test.fullName, state });
        if (state === 'passed') passed += 1;
        else if (state === 'failed') {
          failed += 1;
          failures.push(`${testModule.relativeModuleId}: ${test.fullName}: ${firstLine(testErrors[0])}`);
        } else skipped.push(`${testModule.moduleId}: ${test.fullName}`);
      }
    }
    for (const line of versionMatrix(outcomes)) process.stdout.write(`${line}\n`);
    if (process.env['CI'] !== undefined && skipped.length > 0) {
      process.stdout.write(`skipped in CI, where nothing may be:\n  ${skipped.join('\n  ')}\n`);
      process.exitCode = 1;
    }
    // Last, because a log that was cut off at its top still has it.
    if (failures.length > 0) process.stdout.write(`failed:\n  ${failures.join('\n  ')}\n`);
    process.stdout.write(`\n${passed} passed, ${failed} failed, ${skipped.length} skipped\n`);
  }
}

function firstLine(error: unknown): string {
  const message = error instanceof Error || isSerialized(error) ? error.message : inspect(error);
  return message.split('\n', 1)[0] ?? '';
}

/** An error of a test, as its worker has sent it. */
function isSerialized(error: unknown): error is { readonly message: string } {
  return (
    typeof error === 'object' && error !== null && 'message' in error && typeof error.message === 'string'
  );
}
