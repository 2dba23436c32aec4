import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { KeyedMutex } from '#src/base/keyed-mutex.ts';

describe('tasks', () => {
  test('of one key run one at a time, in order; those of other keys beside them', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(2), fc.nat(3), fc.boolean()), { maxLength: 20 }),
        async (tasks) => {
          const mutex = new KeyedMutex<number>();
          const running = new Map<number, number>();
          const order = new Map<number, number[]>();
          const results = tasks.map(([key, turns, fails], index) =>
            mutex.run(key, async () => {
              expect(running.get(key) ?? 0).toBe(0);
              running.set(key, 1);
              order.set(key, [...(order.get(key) ?? []), index]);
              for (let turn = 0; turn < turns; turn += 1) await Promise.resolve();
              running.set(key, 0);
              if (fails) throw new Error(String(index));
              return index;
            }),
          );
          const settled = await Promise.allSettled(results);
          for (const [index, [, , fails]] of tasks.entries()) {
            expect(settled[index]).toMatchObject(
              fails ? { reason: { message: String(index) } } : { value: index },
            );
          }
          for (const indices of order.values()) expect(indices).toEqual([...indices].sort((a, b) => a - b));
        },
      ),
    );
  });

  test('of another key do not wait', async () => {
    const mutex = new KeyedMutex<string>();
    let release = (): void => undefined;
    const held = mutex.run('a', () => new Promise<void>((resolve) => (release = resolve)));
    expect(await mutex.run('b', () => Promise.resolve('done'))).toBe('done');
    release();
    await held;
  });

  test('that fail do not stop those behind them', async () => {
    const mutex = new KeyedMutex<string>();
    const failing = mutex.run('a', () => Promise.reject(new Error('broken')));
    const next = mutex.run('a', () => Promise.resolve(2));
    await expect(failing).rejects.toThrow('broken');
    expect(await next).toBe(2);
  });

  test('that throw at once fail like others', async () => {
    const mutex = new KeyedMutex<string>();
    const failing = mutex.run('a', () => {
      throw new Error('broken');
    });
    await expect(failing).rejects.toThrow('broken');
    expect(await mutex.run('a', () => Promise.resolve(1))).toBe(1);
  });
});
