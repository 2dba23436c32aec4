import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { chainIds } from '#src/oci/chain-id.ts';
import { digestOf } from '#src/oci/digest.ts';

function sha256(text: string): string {
  return `sha256:${createHash('sha256').update(text).digest('hex')}`;
}

test('each layer is chained to all below it (config.md, "Layer ChainID")', () => {
  const [a, b, c] = [digestOf('a'), digestOf('b'), digestOf('c')];
  const ab = sha256(`${a} ${b}`);
  expect(chainIds([a, b, c])).toEqual([a, ab, sha256(`${ab} ${c}`)]);
  expect(chainIds([])).toEqual([]);
});
