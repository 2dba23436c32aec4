import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { mountMemoryStore, unmountMemoryStore } from '../../../shim/snapshotter/memory-store.ts';
import { mountAt } from '../../../shim/snapshotter/mount-table.ts';
import { hasSwap, plaintextStoreState } from '../../../shim/snapshotter/plaintext-store.ts';
import { swapList } from '../../fakes/swap-lists.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const skip = process.getuid?.() === 0 ? undefined : 'mounting needs root';
const directory = temporaryDirectory();
const [major = 0, minor = 0] = release().split('.').map(Number);
const oldKernel = major > 6 || (major === 6 && minor >= 4) ? '' : ' (needs kernel 6.4)';

function path(): string {
  return join(directory(), 'plaintext');
}

describe.skipIf(skip !== undefined)(`the plaintext store${skip === undefined ? '' : ` (${skip})`}`, () => {
  afterEach(() => unmountMemoryStore(path()));

  /** As an agent has left it on a machine without swap whose kernel knew no better. */
  function mountSwappable(): void {
    mkdirSync(path());
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'latchkey', path()]);
    writeFileSync(join(path(), 'layer'), 'plaintext');
  }

  test('is a private file system of the given size', async () => {
    await mountMemoryStore(path(), '4m');
    expect(statSync(path()).mode & 0o777).toBe(0o700);
    const { capacityBytes, usedBytes } = await plaintextStoreState(path());
    expect(capacityBytes).toBe(4 * 1024 * 1024);
    expect(usedBytes).toBeLessThan(100_000);
    expect(() => writeFileSync(join(path(), 'large'), Buffer.alloc(5_000_000))).toThrow(
      expect.objectContaining({ code: 'ENOSPC' }),
    );
  });

  test('keeps what is in it when the agent starts again, and takes a new size', async () => {
    await mountMemoryStore(path(), '4m');
    writeFileSync(join(path(), 'layer'), 'plaintext');
    await mountMemoryStore(path(), '8m');
    expect(existsSync(join(path(), 'layer'))).toBe(true);
    expect((await plaintextStoreState(path())).capacityBytes).toBe(8 * 1024 * 1024);
  });

  test('goes on with its size when a smaller one would not hold what is in it', async () => {
    await mountMemoryStore(path(), '8m');
    writeFileSync(join(path(), 'layer'), Buffer.alloc(5_000_000));
    await mountMemoryStore(path(), '1m');
    expect(existsSync(join(path(), 'layer'))).toBe(true);
    expect((await plaintextStoreState(path())).capacityBytes).toBe(8 * 1024 * 1024);
  });

  test('is known again behind a link and a path with a space, and not mounted twice', async () => {
    mkdirSync(join(directory(), 'a place'));
    symlinkSync(join(directory(), 'a place'), join(directory(), 'link'));
    const behind = join(directory(), 'link', 'plaintext');
    try {
      await mountMemoryStore(behind, '4m');
      writeFileSync(join(behind, 'layer'), 'plaintext');
      await mountMemoryStore(behind, '4m');
      expect(existsSync(join(behind, 'layer'))).toBe(true);
      expect((await plaintextStoreState(behind)).neverSwapped).toBe(true);
    } finally {
      await unmountMemoryStore(behind);
    }
    expect(existsSync(join(behind, 'layer'))).toBe(false);
  });

  test('forgets everything when it is unmounted, once however often that is asked', async () => {
    mkdirSync(path());
    await mountMemoryStore(path(), '4m');
    writeFileSync(join(path(), 'layer'), 'plaintext');
    await unmountMemoryStore(path());
    await unmountMemoryStore(path());
    expect(existsSync(join(path(), 'layer'))).toBe(false);
  });

  test.skipIf(oldKernel !== '')(`is never swapped, also after a change of its size${oldKernel}`, async () => {
    for (const capacity of ['4m', '8m']) {
      await mountMemoryStore(path(), capacity);
      expect((await mountAt(path()))?.options).toContain('noswap');
      const { neverSwapped } = await plaintextStoreState(path(), swapList(directory(), 'both'));
      expect(neverSwapped).toBe(true);
    }
  });

  test('says whether it may be swapped where the kernel cannot keep it out', async () => {
    mountSwappable();
    const neverSwapped = async (list: 'off' | 'partition') =>
      (await plaintextStoreState(path(), swapList(directory(), list))).neverSwapped;
    expect(await neverSwapped('partition')).toBe(false);
    expect(await neverSwapped('off')).toBe(true);
  });

  test('that could be swapped is kept as long as swap is off', async () => {
    mountSwappable();
    await mountMemoryStore(path(), '4m', swapList(directory(), 'off'));
    expect(existsSync(join(path(), 'layer'))).toBe(true);
  });

  test.skipIf(oldKernel !== '')(
    `that could be swapped is made anew once swap is on${oldKernel}`,
    async () => {
      mountSwappable();
      await mountMemoryStore(path(), '4m', swapList(directory(), 'file'));
      expect((await mountAt(path()))?.options).toContain('noswap');
      expect(existsSync(join(path(), 'layer'))).toBe(false);
    },
  );

  test('that could be swapped is forgotten where no other can be made', async () => {
    mountSwappable();
    await expect(mountMemoryStore(path(), 'nonsense', swapList(directory(), 'file'))).rejects.toMatchObject({
      code: 'STORAGE_FAILED',
      message: expect.stringContaining('cannot be kept out of swap') as string,
    });
    expect(await mountAt(path())).toBeUndefined();
  });

  test('that could be swapped is refused, and stays, while nothing can be known of swap', async () => {
    mountSwappable();
    await expect(mountMemoryStore(path(), '4m', directory())).rejects.toMatchObject({
      code: 'STORAGE_FAILED',
      message: `whether swap is on cannot be read from ${directory()}`,
    });
    expect((await plaintextStoreState(path(), directory())).neverSwapped).toBe(false);
    expect(existsSync(join(path(), 'layer'))).toBe(true);
  });

  test('is not made without noswap while swap is on', async () => {
    const refused = mountMemoryStore(path(), 'nonsense', swapList(directory(), 'file'));
    await expect(refused).rejects.toMatchObject({
      code: 'STORAGE_FAILED',
      message: expect.stringContaining('cannot be kept out of swap') as string,
    });
    expect(await mountAt(path())).toBeUndefined();
  });

  test('that cannot be mounted says what is needed', async () => {
    const failed = mountMemoryStore(path(), 'nonsense', swapList(directory(), 'off'));
    await expect(failed).rejects.toMatchObject({
      code: 'STORAGE_FAILED',
      message: expect.stringContaining('cannot be mounted at') as string,
    });
  });
});

test.each([
  ['off', false],
  ['partition', true],
  ['file', true],
  ['both', true],
] as const)('swap by the kernel’s list: %s is %s', async (list, expected) => {
  expect(await hasSwap(swapList(directory(), list))).toBe(expected);
});

test('a kernel that cannot swap has no list', async () => {
  expect(await hasSwap(join(directory(), 'none'))).toBe(false);
});

test('a list that cannot be read is not taken for an empty one', async () => {
  await expect(hasSwap(directory())).rejects.toMatchObject({
    code: 'STORAGE_FAILED',
    message: `whether swap is on cannot be read from ${directory()}`,
  });
});
