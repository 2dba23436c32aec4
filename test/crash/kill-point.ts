/** Where the agent or containerd is killed: at a moment of a snapshotter call, or while a layer streams. */
import type { CallMoment, SnapshotMethod } from '../../lab/snapshotter-proxy.ts';

export type Victim = 'agent' | 'containerd';

export type KillMoment =
  | {
      readonly method: SnapshotMethod;
      readonly moment: CallMoment;
      /** How many calls of the method in the phase come first. */
      readonly after?: number;
    }
  /** A stream processor is there; half of the layer's files are in memory. */
  | { readonly stream: 'begun' | 'half-way' };

export interface KillPoint {
  readonly victim: Victim;
  readonly at: KillMoment;
}

export function describePoint({ victim, at }: KillPoint): string {
  if ('stream' in at) return `${victim}, layer ${at.stream}`;
  const after = at.after === undefined ? '' : ` #${at.after + 1}`;
  return `${victim}, ${at.method}${after} ${at.moment}`;
}

/** Every victim at every moment. */
export function points(moments: readonly KillMoment[]): KillPoint[] {
  return (['agent', 'containerd'] as const).flatMap((victim) => moments.map((at) => ({ victim, at })));
}

/** A random order that its seed gives again (mulberry32). */
export function shuffled<Item>(items: readonly Item[], seed: number): Item[] {
  let state = seed;
  const random = (): number => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return items
    .map((item) => ({ item, order: random() }))
    .sort((left, right) => left.order - right.order)
    .map(({ item }) => item);
}
