/** Files below one directory on which an installation is tried, with the real programs that are to read them. */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type ContainerdVersion, containerdDirectory } from '../../lab/containerd-versions.ts';
import type { InstallRequest, Machine, UninstallRequest } from '../../shim/install/machine.ts';
import { type UninstallParts, type UninstallResult, uninstall } from '../../shim/install/uninstall.ts';
import { AUTHORITY_PEM } from './authority.ts';

/** Why it cannot be tried; undefined where it can. */
export function installationSkipReason(): string | undefined {
  return existsSync('/usr/bin/containerd') ? undefined : 'needs containerd: apt-get install containerd';
}

/** The program of a version. */
export function containerdProgram(version: ContainerdVersion): string {
  return join(containerdDirectory(version) ?? '', 'containerd');
}

export class InstallationSite {
  /** What was run in place of systemctl. */
  readonly commands: string[] = [];
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
    writeFileSync(this.path('vendor.pem'), AUTHORITY_PEM);
  }

  path(...names: string[]): string {
    return join(this.#directory, ...names);
  }

  /** containerd's configuration before the installation. */
  get operators(): string {
    return `# Written by the operator in 2023.
version = 2
root = "${this.path('large-disk')}" # the large disk

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.acme.example/pause:1"
  # mirrors
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native" # was overlayfs
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = true
`;
  }

  writeOperators(text = this.operators): string {
    mkdirSync(this.path('containerd'), { recursive: true });
    const file = this.path('containerd', 'config.toml');
    writeFileSync(file, text);
    chmodSync(file, 0o640);
    return file;
  }

  request(version: ContainerdVersion, change: Partial<InstallRequest> = {}): InstallRequest {
    return {
      config: this.path('etc', 'node.toml'),
      keyServer: 'keys.acme.example:7443',
      authority: this.path('vendor.pem'),
      containerd: containerdProgram(version),
      containerdConfig: this.path('containerd', 'config.toml'),
      stateDirectory: this.path('state'),
      runtimeDirectory: this.path('run'),
      dryRun: false,
      ...change,
    };
  }

  /** A request without what an earlier installation has settled. */
  repeated(version: ContainerdVersion): InstallRequest {
    return this.request(version, { keyServer: undefined, authority: undefined });
  }

  machine(change: Partial<Machine> = {}): Machine {
    return {
      processes: [],
      programs: [],
      hasSystemd: false,
      units: this.path('units'),
      packagedUnits: this.path('packaged'),
      hooks: this.path('hooks.d'),
      agentCommand: ['/opt/latchkey/bin/latchkey', 'node', 'run'],
      platform: 'linux/amd64',
      ...change,
    };
  }

  /** `node uninstall`. @param mounts text of /proc/self/mounts @param run in place of systemctl */
  takeBack(
    change: Partial<UninstallRequest> = {},
    on: Partial<Machine> = {},
    mounts = '',
    run: UninstallParts['run'] = () => Promise.resolve(),
  ): Promise<UninstallResult> {
    const config = this.path('etc', 'node.toml');
    return uninstall(
      { config, force: false, purge: false, dryRun: false, ...change },
      {
        machine: this.machine(on),
        mounts,
        run: (name, args) => {
          this.commands.push([name, ...args].join(' '));
          return run(name, args);
        },
      },
    );
  }

  /** Every file with its mode and content. */
  files(): Record<string, string> {
    const files = readdirSync(this.#directory, { recursive: true, withFileTypes: true });
    return Object.fromEntries(
      files.map((entry) => {
        const name = join(entry.parentPath, entry.name);
        const mode = (statSync(name).mode & 0o777).toString(8);
        return [name, entry.isDirectory() ? mode : `${mode} ${readFileSync(name, 'utf8')}`];
      }),
    );
  }
}
