/** Ends several parts in order; one that cannot be ended does not keep the others alive. */

/** Runs every step, whatever happens to those before it; then raises the first failure. */
export async function stopAll(...steps: (() => Promise<unknown> | undefined)[]): Promise<void> {
  const failures: unknown[] = [];
  for (const step of steps) {
    try {
      await step();
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) throw new AggregateError(failures, 'not everything could be stopped');
}
