import { describe, expect, test } from 'vitest';
import { JoinedTask } from '#src/base/joined-task.ts';

/** A task whose runs are ended by hand. */
function steered() {
  const ends: { resolve: () => void; reject: (error: Error) => void }[] = [];
  const task = new JoinedTask(
    () => new Promise<void>((resolve, reject) => void ends.push({ resolve, reject })),
  );
  const begun = (count: number) => expect.poll(() => ends.length).toBe(count);
  return { task, ends, begun };
}

describe('a task that callers share', () => {
  test('runs once for all that ask while it runs, after it has ended', async () => {
    const { task, ends, begun } = steered();
    const first = task.run();
    await begun(1);
    const others = [task.run(), task.run(), task.run()];
    expect(new Set(others).size).toBe(1);
    expect(ends).toHaveLength(1);
    ends[0]?.resolve();
    await first;
    await begun(2);
    ends[1]?.resolve();
    await Promise.all(others);
    expect(ends).toHaveLength(2);
  });

  test('that fails tells those who waited for that run, and runs again for the next', async () => {
    const { task, ends, begun } = steered();
    const first = task.run();
    await begun(1);
    const second = task.run();
    ends[0]?.reject(new Error('full'));
    await expect(first).rejects.toThrow('full');
    await begun(2);
    ends[1]?.resolve();
    await second;
  });

  test('has ended when nothing runs or waits', async () => {
    const { task, ends, begun } = steered();
    await task.ended();
    const failing = task.run();
    failing.catch(() => undefined);
    await begun(1);
    const ended = task.ended();
    ends[0]?.reject(new Error('full'));
    await ended;
    await expect(failing).rejects.toThrow('full');
  });
});
