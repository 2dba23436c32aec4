import { generateKeyPairSync } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { systemClock } from '#src/base/clock.ts';
import { MAX_REMEMBERED_LICENSES } from '#src/base/limits.ts';
import { NodeMemory } from '../../../shim/agent/node-memory.ts';
import { SoftwareKey } from '../../../shim/agent/software-key.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const directory = temporaryDirectory();
const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const key = new SoftwareKey(privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(), true);

function open(): Promise<NodeMemory> {
  return NodeMemory.open({
    directory: directory(),
    key,
    clock: systemClock,
    boot: 'this boot',
    onWriteFailed: (error) => {
      throw error;
    },
  });
}

describe('what a node remembers of licenses', () => {
  test('is written as earlier versions know it, until starts are counted', async () => {
    const memory = await open();
    await memory.keepSequence('lic-a', 1);
    const text = () => readFile(join(directory(), 'node-state.json'), 'utf8');
    expect(await text()).not.toMatch(/starts|memoryId/);
    await memory.countStart('lic-a', true);
    await memory.claimMemoryId();
    const restarted = await open();
    expect(restarted.startsOf('lic-a')).toBe(1);
    expect(restarted.memoryId).toBe(memory.memoryId);
    await restarted.forgetServer();
    expect((await open()).memoryId).toBe(memory.memoryId);
  });

  test('stays small whatever a key server names, and keeps bundles void that were', async () => {
    const memory = await open();
    await memory.keepSequence('lic-with-bundle', 7);
    for (let index = 1; index <= 2 * MAX_REMEMBERED_LICENSES; index += 1) {
      memory.noteLicense(`lic-${index}`, { epoch: 1, deniedRevision: index });
    }
    await memory.keep();
    const restarted = await open();
    for (const known of [memory, restarted]) {
      expect(known.lastSequence('lic-with-bundle')).toBe(7);
      // The newest is known by its own refusal, the first only by what was forgotten.
      const newest = { licenseId: `lic-${2 * MAX_REMEMBERED_LICENSES}`, epoch: 1 };
      expect(known.isVoid({ ...newest, revision: 2 * MAX_REMEMBERED_LICENSES })).toBe(true);
      expect(known.isVoid({ ...newest, revision: 2 * MAX_REMEMBERED_LICENSES + 1 })).toBe(false);
      expect(known.isVoid({ licenseId: 'lic-1', epoch: 1, revision: 1 })).toBe(true);
      expect(known.isVoid({ licenseId: 'lic-1', epoch: 1, revision: 3 * MAX_REMEMBERED_LICENSES })).toBe(
        false,
      );
    }
    const sizeBytes = (await stat(join(directory(), 'node-state.json'))).size;
    expect(sizeBytes).toBeLessThan(200 * MAX_REMEMBERED_LICENSES);
  });

  test('is on the disk when a keep resolves, however many were asked for at once', async () => {
    const memory = await open();
    const keeps = [];
    for (let sequence = 1; sequence <= 100; sequence += 1) keeps.push(memory.keepSequence('lic-a', sequence));
    await Promise.all(keeps);
    expect((await open()).lastSequence('lic-a')).toBe(100);
  });
});
