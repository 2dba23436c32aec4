/** The file that makes podman and CRI-O ask, as an operator may have left it. */
import { describe, expect, test } from 'vitest';
import { hookFindings } from '../../../shim/install/doctor-hook.ts';
import { ociHookFile } from '../../../shim/install/oci-hook.ts';

const program = '/var/lib/latchkey/node/latchkey-hook';
const path = '/etc/containers/oci/hooks.d/latchkey.json';
const written = ociHookFile(program);

test('a hook as it is installed has no finding, nor one with another time limit', () => {
  for (const text of [written, written.replace('30', '60')])
    expect(hookFindings({ path, text, program })).toMatchObject([{ id: 'hook-file', severity: 'ok' }]);
});

describe('a hook that does not gate every start', () => {
  test.each([
    ['is missing', undefined, 'hook-file-missing'],
    ['is empty', '', 'hook-file-wrong'],
    ['is of another shape', '[]', 'hook-file-wrong'],
    ['runs another program', written.replace('latchkey-hook', 'old-hook'), 'hook-file-wrong'],
    ['runs at some starts only', written.replace('"always": true', '"annotations": {}'), 'hook-file-wrong'],
    ['runs at another stage', written.replace('createRuntime', 'poststop'), 'hook-file-wrong'],
  ])('%s', (_case, text, id) => {
    const [finding, ...others] = hookFindings({ path, text, program });
    expect(finding).toMatchObject({ id, severity: 'bad' });
    expect(finding?.mend).toContain('latchkey node install');
    expect(others).toEqual([]);
  });
});
