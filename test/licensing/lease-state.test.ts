import { describe, expect, it } from 'vitest';
import { type LeaseStanding, leaseState } from '#src/licensing/lease-state.ts';

const NOW_MS = 1_000_000;
const held: LeaseStanding = {
  ...{ epoch: 3, licenseEpoch: 3, nodeState: 'ACTIVE', isRenewed: false },
  usableUntilMs: NOW_MS + 1,
};

describe('the state of a lease', () => {
  it.each([
    ['its node can start with it', {}, 'ACTIVE'],
    ['it was renewed', { isRenewed: true }, 'SUPERSEDED'],
    ['its license has changed', { licenseEpoch: 4 }, 'VOID'],
    ['its license has changed after it was renewed', { licenseEpoch: 4, isRenewed: true }, 'VOID'],
    ['its node was banned', { nodeState: 'BANNED' }, 'VOID'],
    ['its node is gone', { nodeState: 'RETIRED' }, 'VOID'],
    ['its node is in use twice', { nodeState: 'CLONED' }, 'VOID'],
    ['its time is up', { usableUntilMs: NOW_MS }, 'EXPIRED'],
    ['its time is up, whatever else', { usableUntilMs: 0, licenseEpoch: 4, isRenewed: true }, 'EXPIRED'],
  ] as const)('when %s', (_case, change, state) => {
    expect(leaseState({ ...held, ...change }, NOW_MS)).toBe(state);
  });
});
