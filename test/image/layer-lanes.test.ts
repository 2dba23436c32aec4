import { describe, expect, test } from 'vitest';
import { LARGE_LAYER_BYTES } from '#src/base/limits.ts';
import { type LayerWork, runLayers } from '#src/image/layer-lanes.ts';

/** Work that notes how much of its kind goes on at once. */
function tracked(count: number, sizeBytes: number) {
  const state = { running: 0, most: 0, done: 0 };
  const run: LayerWork['run'] = async () => {
    state.running += 1;
    state.most = Math.max(state.most, state.running);
    await new Promise((resolve) => setImmediate(resolve));
    state.running -= 1;
    state.done += 1;
  };
  return { state, works: Array.from({ length: count }, (): LayerWork => ({ sizeBytes, run })) };
}

describe('several layers', () => {
  test('are all worked on, large ones no more at a time than allowed', async () => {
    const small = tracked(20, 100);
    const large = tracked(5, LARGE_LAYER_BYTES);
    await runLayers([...large.works, ...small.works], 2, undefined);
    expect(small.state).toEqual({ running: 0, most: 8, done: 20 });
    expect(large.state).toEqual({ running: 0, most: 2, done: 5 });
  });

  test('begin with the largest, so that it is not waited for at the end', async () => {
    const begun: number[] = [];
    const works = [1, 3, 2, 5, 4].map((factor): LayerWork => {
      const sizeBytes = factor * LARGE_LAYER_BYTES;
      return { sizeBytes, run: async () => void begun.push(factor) };
    });
    await runLayers(works, 1, undefined);
    expect(begun).toEqual([5, 4, 3, 2, 1]);
    expect(works.map(({ sizeBytes }) => sizeBytes / LARGE_LAYER_BYTES)).toEqual([1, 3, 2, 5, 4]);
  });

  test('stop at the first failure, and it is told when nothing runs any more', async () => {
    const others = tracked(20, 100);
    let isAborted = false;
    const works: LayerWork[] = [
      { sizeBytes: 1, run: () => Promise.reject(new Error('the first')) },
      {
        sizeBytes: 1,
        run: async (signal) => {
          await new Promise((resolve) => signal.addEventListener('abort', resolve));
          isAborted = true;
          throw new Error('a consequence');
        },
      },
      ...others.works,
    ];
    await expect(runLayers(works, 1, undefined)).rejects.toThrow('the first');
    expect(isAborted).toBe(true);
    expect(others.state.running).toBe(0);
    expect(others.state.done).toBeLessThan(20);
  });

  test('see the caller interrupt them', async () => {
    const controller = new AbortController();
    const run: LayerWork['run'] = async (signal) => {
      controller.abort(new Error('enough'));
      signal.throwIfAborted();
    };
    const works = [{ sizeBytes: LARGE_LAYER_BYTES, run }];
    await expect(runLayers(works, 1, controller.signal)).rejects.toThrow('enough');
  });
});
