import { expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { digestOf } from '#src/oci/digest.ts';
import { explainFailedApply } from '../../../shim/containerd/unpack.ts';

const layer = { digest: digestOf('layer') };

test.each(['plaintext_capacity', 'volume_capacity'])(
  'a layer for which there is no room says to raise the setting of the store that is in use: %s',
  (setting) => {
    const cause = new Error('failed to write: no space left on device');
    const failed = new LatchkeyError('BUG_UNEXPECTED', 'unexpected', { cause });
    expect(explainFailedApply(layer, failed, setting)).toMatchObject({
      code: 'STORAGE_FULL',
      hint: `raise ${setting} in the configuration of the agent, or stop other containers`,
    });
  },
);

test('a refusal passes as it is', () => {
  const denied = new LatchkeyError('DENIED_LICENSE_REVOKED', 'revoked');
  expect(explainFailedApply(layer, denied, 'plaintext_capacity')).toBe(denied);
});
