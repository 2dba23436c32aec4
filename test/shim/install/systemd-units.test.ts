import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { agentPaths } from '../../../shim/agent/agent-config.ts';
import { containerdDropIn, nodeServiceUnit } from '../../../shim/install/systemd-units.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const directory = temporaryDirectory();
const paths = agentPaths('/var/lib/latchkey/node', '/run/latchkey');
const unit = nodeServiceUnit(['/bin/true', 'node', 'run'], paths, ['containerd.service']);

describe('the service', () => {
  test('is up when its socket is there, before containerd', () => {
    expect(unit).toContain('Before=kubelet.service containerd.service\n');
    expect(unit).toContain('test -S /run/latchkey/agent.sock;');
    expect(unit).toContain('RuntimeDirectory=latchkey\n');
    expect(containerdDropIn()).toContain('After=latchkey-node.service\n');
  });

  test('is never given up, ended last, and leaves no core and no mount behind', () => {
    for (const line of [
      'Restart=always',
      'StartLimitIntervalSec=0',
      'OOMScoreAdjust=-999',
      'LimitCORE=0',
      'KillMode=process',
    ])
      expect(unit.split('\n')).toContain(line);
    expect(unit).not.toMatch(/^(?:Private|Protect|ReadOnly|Inaccessible)/m);
  });

  test('takes paths with odd characters as they are', () => {
    const odd = nodeServiceUnit(['/opt/a b/100%/"x"'], agentPaths('/srv/s', '/srv/r'), []);
    expect(odd).toContain('ExecStart="/opt/a b/100%%/\\"x\\""\n');
    expect(odd).not.toContain('RuntimeDirectory=');
  });
});

const verifyReason = existsSync('/usr/bin/systemd-analyze')
  ? undefined
  : 'needs systemd-analyze: apt-get install systemd';

test.skipIf(verifyReason !== undefined)(
  `systemd has nothing to say against it ${verifyReason ?? ''}`,
  async () => {
    const units = join(directory(), 'units');
    await mkdir(join(units, 'containerd.service.d'), { recursive: true });
    await writeFile(join(units, 'latchkey-node.service'), unit);
    await writeFile(join(units, 'containerd.service'), '[Service]\nExecStart=/bin/true\n');
    await writeFile(join(units, 'containerd.service.d', 'latchkey.conf'), containerdDropIn());
    const { stdout, stderr } = await promisify(execFile)(
      'systemd-analyze',
      ['verify', '--man=no', join(units, 'latchkey-node.service'), join(units, 'containerd.service')],
      { env: { ...process.env, SYSTEMD_UNIT_PATH: `${units}:` } },
    );
    expect(`${stdout}${stderr}`).not.toMatch(/latchkey|containerd/);
  },
);
