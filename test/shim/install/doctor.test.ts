/** Misconfigurations of containerd, built for real and judged by the containerd that reads them. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { beforeEach, describe, expect, test } from 'vitest';
import { CONTAINERD_VERSIONS, type ContainerdVersion } from '../../../lab/containerd-versions.ts';
import { parseAgentConfig } from '../../../shim/agent/agent-config.ts';
import { DEFAULT_SETTINGS } from '../../../shim/install/agent-presence.ts';
import { containerdFacts } from '../../../shim/install/containerd-facts.ts';
import type { ProcessFacts } from '../../../shim/install/containerd-search.ts';
import { type ContainerdFacts, containerdFindings } from '../../../shim/install/doctor-containerd.ts';
import type { Finding } from '../../../shim/install/finding.ts';
import { install } from '../../../shim/install/install.ts';
import { examine } from '../../../shim/install/node-facts.ts';
import {
  InstallationSite,
  containerdProgram,
  installationSkipReason,
} from '../../fakes/installation-site.ts';
import { describeOnContainerds } from '../../fakes/on-containerds.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const directory = temporaryDirectory();
let site: InstallationSite;

beforeEach(() => {
  site = new InstallationSite(directory());
});

/** This process stands for the containerd that runs with the site's configuration. */
function running(configPath = site.path('containerd', 'config.toml')): ProcessFacts {
  return { pid: process.pid, program: '/usr/bin/containerd', args: ['--config', configPath] };
}

async function facts(version: ContainerdVersion, processes = [running()]): Promise<ContainerdFacts> {
  const config = parseAgentConfig(readFileSync(site.path('etc', 'node.toml'), 'utf8'), 'node.toml');
  const request = {
    config: site.path('etc', 'node.toml'),
    containerd: containerdProgram(version),
    containerdConfig: site.path('containerd', 'config.toml'),
  };
  const found = await containerdFacts(request, { config, record: undefined, processes });
  if (typeof found === 'string') throw new Error(found);
  return found;
}

/** What is not as it should be, once each; what is only worth knowing is left out. */
async function failing(version: ContainerdVersion, change: Partial<ContainerdFacts> = {}): Promise<string[]> {
  const findings = containerdFindings({ ...(await facts(version)), ...change }, 'snapshotter');
  for (const { severity, mend } of findings)
    expect(mend === undefined).toBe(severity === 'ok' || severity === 'info');
  return [
    ...new Set(
      findings.filter(({ severity }) => severity !== 'ok' && severity !== 'info').map(({ id }) => id),
    ),
  ];
}

/** What is said of the payload of CRI. */
async function payload(version: ContainerdVersion): Promise<Finding[]> {
  const findings = containerdFindings(await facts(version), 'snapshotter');
  return findings.filter(({ id }) => id === 'payload-not-sent');
}

/** Changes the installed configuration; an old file, as if containerd had been started since. */
function alter(change: (text: string) => string): void {
  const file = site.path('containerd', 'config.toml');
  writeFileSync(file, change(readFileSync(file, 'utf8')));
  utimesSync(file, 0, 0);
}

const skipReason = installationSkipReason();

describeOnContainerds({ title: 'doctor', versions: CONTAINERD_VERSIONS, skipReason }, (version) => {
  describe('misconfigured', () => {
    beforeEach(async () => {
      site.writeOperators();
      await install(site.request(version), site.machine());
      alter((text) => text);
    });

    test('is not, as it is installed', async () => {
      expect(await failing(version)).toEqual([]);
      expect(await payload(version)).toEqual([]);
    });

    test('a CRI that is not to decrypt, so that it sends no payload', async () => {
      alter((text) => text.replace('key_model = "node"', 'key_model = ""'));
      expect(await failing(version)).toEqual([]);
      expect(await payload(version)).toMatchObject([
        { severity: 'info', detail: expect.stringContaining('key_model') as string },
      ]);
    });

    test('processors that are not ours, or not there', async () => {
      alter((text) => text.replace(/path = ".*latchkey-processor"/, 'path = "ctd-decoder"'));
      expect(await failing(version)).toEqual(['processor-not-called']);
      alter((text) => text.replace(/\[stream_processors\.\"[^\"]*zstd\"\]\n(?:\w.*\n)*/, ''));
      expect(await failing(version)).toEqual(['processor-not-called']);
    });

    test('another processor for the same layers', async () => {
      const media = 'application/vnd.oci.image.layer.v1.tar+encrypted';
      alter(
        (text) => `${text}[stream_processors."acme"]\naccepts = ["${media}"]\nreturns = "x"\npath = "acme"\n`,
      );
      expect(await failing(version)).toEqual(['processor-foreign']);
    });

    test('a snapshotter at another socket', async () => {
      alter((text) => text.replace(/address = ".*snapshotter.sock"/, 'address = "/run/old.sock"'));
      expect(await failing(version)).toEqual(['proxy-plugin-wrong']);
    });

    if (version !== '1.6') {
      test('a snapshotter whose directory containerd does not tell', async () => {
        alter((text) => text.replace(/\[proxy_plugins.latchkey.exports\]\nroot = .*\n/, ''));
        expect(await failing(version)).toEqual(['exports-root-missing']);
      });
    }

    test('the snapshotter of CRI lost', async () => {
      alter((text) =>
        text
          .replaceAll(/^ *snapshotter = "latchkey" # set by latchkey\n/gm, '')
          .replace(/^(\[plugins."io.containerd.cri.v1.images"\]\n)snapshotter = "latchkey"\n/m, '$1'),
      );
      expect(await failing(version)).toEqual(['snapshotter-lost']);
    });

    test('layers thrown away once unpacked', async () => {
      alter((text) =>
        text.replace(
          '  [plugins."io.containerd.grpc.v1.cri".containerd]\n',
          '$&    discard_unpacked_layers = true\n',
        ),
      );
      expect(await failing(version)).toEqual(['discard-unpacked-layers']);
    });

    test('a file that containerd does not take', async () => {
      alter((text) => `${text}[broken\n`);
      expect(await failing(version)).toEqual(['containerd-config-refused']);
    });

    test('a containerd that was not restarted, or does not run', async () => {
      utimesSync(site.path('containerd', 'config.toml'), Date.now() / 1000 + 60, Date.now() / 1000 + 60);
      expect(await failing(version)).toEqual(['containerd-restart-needed']);
      const stopped = await facts(version, []);
      expect(containerdFindings(stopped, 'snapshotter').map(({ id }) => id)).toContain(
        'containerd-not-running',
      );
    });

    test('a second containerd, and mounts that it does not see', async () => {
      expect(await failing(version, { runningConfigs: ['/other.toml'] })).toEqual(['several-containerds']);
      const process = { startedMs: Date.now(), seesStore: false };
      expect(await failing(version, { process })).toEqual(['mounts-private']);
    });
  });
});

describeOnContainerds({ title: 'doctor', versions: ['1.7', '2'], skipReason }, (version) => {
  test('a runtime class that gates nothing', async () => {
    site.writeOperators();
    await install(site.request(version, { mode: 'runtime-class' }), site.machine());
    alter((text) => text);
    expect(await failing(version)).toEqual([]);
    const lose = (table: RegExp) => {
      alter((text) => text.replace(table, '$1'));
    };
    if (version === '2') {
      // The pods run on the snapshotter, and their images are in another one.
      lose(/(runtime_platforms\.latchkey\]\nplatform = .*\n)snapshotter = "latchkey"\n/);
      expect(await failing(version)).toEqual(['runtime-class-missing']);
    }
    lose(/(runtimes\.latchkey\]\n(?:\w.*\n)*?)snapshotter = "latchkey"\n/);
    expect(await failing(version)).toEqual(['runtime-class-missing']);
  });
});

test('no containerd at all', async () => {
  mkdirSync(site.path('etc'));
  const settings = `state_directory = "${site.path('state')}"\nruntime_directory = "${site.path('run')}"\n`;
  writeFileSync(site.path('etc', 'node.toml'), `${DEFAULT_SETTINGS}${settings}`);
  const { findings } = await examine({
    config: site.path('etc', 'node.toml'),
    containerd: site.path('containerd'),
    containerdConfig: site.path('containerd', 'config.toml'),
  });
  expect(findings.filter(({ id }) => id.startsWith('containerd'))).toMatchObject([
    { id: 'containerd-missing', severity: 'bad', detail: `${site.path('containerd')} cannot be run` },
  ]);
});

describeOnContainerds({ title: 'doctor', versions: ['2'], skipReason }, () => {
  beforeEach(async () => {
    site.writeOperators('version = 2\n[plugins."io.containerd.grpc.v1.cri"]\nsandbox_image = "p"\n');
    await install(site.request('2'), site.machine());
    alter((text) => text);
  });

  test('a file of version 2 loses the snapshotter that 1.x took from it', async () => {
    alter(() => 'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd]\nsnapshotter = "latchkey"\n');
    expect(await failing('2')).toContain('snapshotter-lost');
  });

  test('a transfer service without our snapshotter', async () => {
    alter((text) => text.replaceAll(/\[\[plugins[^[]*/g, '').concat('# end latchkey\n'));
    expect(await failing('2')).toEqual(['unpack-config-missing']);
  });

  test('a CRI that pulls through the transfer service, over which it sends nothing', async () => {
    alter((text) =>
      text.replaceAll('disable_snapshot_annotations = false', 'disable_snapshot_annotations = true'),
    );
    expect(await payload('2')).toMatchObject([
      { severity: 'info', detail: expect.stringContaining('transfer service') as string },
    ]);
  });
});

describeOnContainerds({ title: 'doctor', versions: ['1.6'], skipReason }, () => {
  test('the directory for disk statistics is missing', async () => {
    site.writeOperators();
    await install(site.request('1.6'), site.machine());
    alter((text) => text);
    execFileSync('rmdir', [site.path('large-disk', 'io.containerd.snapshotter.v1.latchkey')]);
    expect(await failing('1.6')).toEqual(['disk-statistics-missing']);
  });
});
