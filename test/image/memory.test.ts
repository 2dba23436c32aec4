import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { buildBenchImage, incompressibleLayer } from '../../bench/bench-image.ts';
import { runMeasured } from '../../bench/measured-run.ts';

const LATCHKEY = join(import.meta.dirname, '..', '..', 'cli', 'latchkey.js');
const SMALL_MEBIBYTES = 64;
const LARGE_MEBIBYTES = 384;
/** Well below what keeping even a quarter of the difference would take, well above what runs differ by. */
const TOLERANCE_MIB = 60;

let directory: string;
const at = (name: string) => join(directory, name);

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-memory-'));
  await promisify(execFile)(process.execPath, [LATCHKEY, 'keygen', at('key'), '--quiet']);
});

afterAll(() => rm(directory, { recursive: true, force: true }));

async function peaks(mebibytes: number): Promise<{ encrypt: number; decrypt: number }> {
  const [plain, encrypted, decrypted] = ['plain', 'encrypted', 'decrypted'].map(
    (name) => `oci:${at(`${name}-${mebibytes}`)}:v1`,
  ) as [string, string, string];
  await buildBenchImage(at(`plain-${mebibytes}`), [incompressibleLayer(mebibytes)]);
  const latchkey = (...args: string[]) => runMeasured(process.execPath, [LATCHKEY, ...args, '--quiet']);
  const encrypt = await latchkey('encrypt', plain, encrypted, '--recipient', `jwe:${at('key.pub.pem')}`);
  const decrypt = await latchkey('decrypt', encrypted, decrypted, '--key', at('key.pem'));
  return { encrypt: encrypt.peakMib, decrypt: decrypt.peakMib };
}

test('memory does not grow with the layer', async () => {
  // The first run fills the compile cache, which takes memory of its own.
  await peaks(1);
  const small = await peaks(SMALL_MEBIBYTES);
  const large = await peaks(LARGE_MEBIBYTES);
  expect(large.encrypt).toBeLessThan(small.encrypt + TOLERANCE_MIB);
  expect(large.decrypt).toBeLessThan(small.decrypt + TOLERANCE_MIB);
  expect(small.encrypt).toBeGreaterThan(0);
}, 300_000);
