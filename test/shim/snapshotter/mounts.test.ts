import { expect, test } from 'vitest';
import { type MountPlan, planMounts } from '../../../shim/snapshotter/mounts.ts';

/** What containerd's own overlayfs snapshotter answers (snapshots/overlay/overlay.go, mounts). */
const TABLE: readonly [string, Partial<MountPlan>, { type: string; source: string; options: string[] }][] = [
  ['a base layer', {}, { type: 'bind', source: '/s/9/fs', options: ['rw', 'rbind'] }],
  ['a view of nothing', { kind: 'view' }, { type: 'bind', source: '/s/9/fs', options: ['ro', 'rbind'] }],
  [
    'a view of one layer',
    { kind: 'view', lowerDirectories: ['/s/1/fs'] },
    { type: 'bind', source: '/s/1/fs', options: ['ro', 'rbind'] },
  ],
  [
    'a view of two layers',
    { kind: 'view', lowerDirectories: ['/s/2/fs', '/s/1/fs'] },
    { type: 'overlay', source: 'overlay', options: ['lowerdir=/s/2/fs:/s/1/fs'] },
  ],
  [
    'a container on one layer',
    { lowerDirectories: ['/s/1/fs'] },
    {
      type: 'overlay',
      source: 'overlay',
      options: ['workdir=/s/9/work', 'upperdir=/s/9/fs', 'lowerdir=/s/1/fs'],
    },
  ],
  [
    'a container on a kernel with inode indexes',
    { lowerDirectories: ['/s/2/fs', '/s/1/fs'], overlayOptions: ['index=off'] },
    {
      type: 'overlay',
      source: 'overlay',
      options: ['index=off', 'workdir=/s/9/work', 'upperdir=/s/9/fs', 'lowerdir=/s/2/fs:/s/1/fs'],
    },
  ],
];

test.each(TABLE)('%s', (_case, change, expected) => {
  const plan: MountPlan = {
    kind: 'active',
    upperDirectory: '/s/9/fs',
    workDirectory: '/s/9/work',
    lowerDirectories: [],
    overlayOptions: [],
    ...change,
  };
  expect(planMounts(plan)).toEqual([{ target: '', ...expected }]);
});
