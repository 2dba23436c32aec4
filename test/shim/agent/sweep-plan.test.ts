import { describe, expect, test } from 'vitest';
import type { ContainerdSnapshot } from '../../../shim/containerd/snapshots.ts';
import { type ChainFate, planSweep } from '../../../shim/agent/sweep-plan.ts';

const NOW_MS = 100_000;

/** `name` on `parent`; those that begin with `c-` are containers'. */
function snapshot(name: string, parent = '', createdAtMs = 0): ContainerdSnapshot {
  return { name, parent, createdAtMs, isCommitted: !name.startsWith('c-'), labels: {} };
}

const BASE = snapshot('base');
const LAYERS = [BASE, snapshot('one', 'base'), snapshot('two', 'one')];

function plan(
  snapshots: readonly ContainerdSnapshot[],
  fates: Readonly<Record<string, ChainFate>>,
  running: readonly string[] = [],
): string[] {
  const fateOf = (name: string): ChainFate | undefined => fates[name];
  return planSweep({ snapshots, fateOf, running: new Set(running), committedBeforeMs: NOW_MS });
}

describe('what nobody stands on', () => {
  const due = { one: 'due', two: 'due' } as const;

  test('goes topmost first, and the plain base stays', () => {
    expect(plan(LAYERS, due)).toEqual(['two', 'one']);
  });

  test('stays while a container stands on it, whether it runs or not', () => {
    expect(plan([...LAYERS, snapshot('c-1', 'two')], due)).toEqual([]);
  });

  test('goes as far as nobody stands on it', () => {
    expect(plan([...LAYERS, snapshot('c-1', 'one')], due)).toEqual(['two']);
  });

  test('stays for a moment, for the client that has just unpacked it', () => {
    const young = [BASE, snapshot('one', 'base'), snapshot('two', 'one', NOW_MS + 1)];
    expect(plan(young, due)).toEqual([]);
  });

  test('stays when something was committed on top that no image has', () => {
    expect(plan([...LAYERS, snapshot('commit', 'two')], due)).toEqual([]);
  });

  test('is not there, or not secret: nothing goes', () => {
    expect(plan([], due)).toEqual([]);
    expect(plan(LAYERS, {})).toEqual([]);
  });
});

describe('of a refused image', () => {
  const refused = { one: 'refused', two: 'refused' } as const;

  test('all goes that does not run, also what a container wrote and what was just unpacked', () => {
    const all = [BASE, snapshot('one', 'base'), snapshot('two', 'one', NOW_MS + 1), snapshot('c-1', 'two')];
    expect(plan(all, refused)).toEqual(['c-1', 'two', 'one']);
  });

  test('a running container keeps what it stands on, and nothing else', () => {
    const all = [...LAYERS, snapshot('c-1', 'two'), snapshot('c-2', 'two'), snapshot('commit', 'two')];
    expect(plan(all, refused, ['c-1'])).toEqual(['c-2', 'commit']);
  });

  test('what is built on it is refused with it', () => {
    expect(plan([...LAYERS, snapshot('commit', 'two')], refused)).toEqual(['commit', 'two', 'one']);
  });

  test('the lower part may be another image’s', () => {
    expect(plan([...LAYERS, snapshot('c-1', 'one')], { one: 'due', two: 'refused' })).toEqual(['two']);
  });
});

test('a snapshot whose parent is not listed is the bottom of its chain', () => {
  expect(plan([snapshot('two', 'elsewhere')], { two: 'due' })).toEqual(['two']);
});
