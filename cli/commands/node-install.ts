/** `latchkey node install`: sets this machine up, in one command. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { LatchkeyError } from '#src/base/errors.ts';
import type { CommandContext } from '../context.ts';
import { outputOf } from '../output.ts';
import { runJsonProgram } from '../run-program.ts';
import { readLine, withAgent } from './agent-socket.ts';
import { type Restart, confirmRestart, restartServices } from './node-restart.ts';

export const DEFAULT_CONFIG_PATH = '/etc/latchkey/node.toml';

interface InstallOptions {
  readonly config: string;
  readonly keyServer?: string;
  readonly enrollment?: string;
  readonly authority?: string;
  readonly licenseKey?: string;
  readonly mode?: string;
  readonly runtimeClass?: string;
  readonly containerd?: string;
  readonly containerdConfig?: string;
  readonly containerdAddress?: string;
  readonly stateDirectory?: string;
  readonly runtimeDirectory?: string;
  readonly nodeName?: string;
  readonly dryRun?: boolean;
  readonly restart?: boolean;
}

interface InstallAnswer {
  readonly mode: string;
  readonly containerd: {
    readonly version: string;
    readonly program: string;
    readonly configPath: string;
  } | null;
  readonly changed: boolean;
  readonly files: readonly { readonly path: string; readonly change: string; readonly diff: string }[];
  readonly notes: readonly string[];
  readonly next: readonly string[];
  readonly restart: Restart;
  readonly agentSocket: string;
}

export function registerNodeInstall(node: Command, context: CommandContext): void {
  node
    .command('install')
    .description("set this machine up: the agent's settings, containerd, services")
    .option('--key-server <host:port>', "the vendor's key server, for nodes")
    .option(
      '--enrollment <host:port>',
      'where nodes are activated (default: the port after that of the key server)',
    )
    .option('--authority <file>', "the vendor's authority.pem")
    .option('--license-key <key>', '- reads a license key from standard input and activates (with --restart)')
    .option('--mode <mode>', 'snapshotter, runtime-class, sweep or hook (default: snapshotter)')
    .option('--runtime-class <name>', 'its name, for the mode runtime-class (default: latchkey)')
    .option('--node-name <name>', 'what the vendor sees (default: the host name)')
    .option('--config <file>', "the agent's configuration", DEFAULT_CONFIG_PATH)
    .option('--containerd <program>', 'containerd’s program (default: the one that runs, or is installed)')
    .option('--containerd-config <file>', 'its configuration (default: that of the one that runs)')
    .option('--containerd-address <socket>', 'its socket (default: as its configuration says)')
    .option(
      '--state-directory <directory>',
      'where the agent keeps its state (default: /var/lib/latchkey/node)',
    )
    .option('--runtime-directory <directory>', 'where the agent has its sockets (default: /run/latchkey)')
    .option('--restart', 'start the agent and restart containerd afterwards, without asking')
    .option('--dry-run', 'show every change, make none')
    .addHelpText(
      'after',
      '\nExample:\n  latchkey node install --key-server keys.acme.example:7443 --authority authority.pem --dry-run',
    )
    .action(async (options: InstallOptions, command: Command) => {
      const { licenseKey, restart, dryRun, ...rest } = options;
      checkLicenseKey(options);
      const request = {
        ...rest,
        dryRun: dryRun === true,
        config: resolve(options.config),
        ...(options.authority === undefined ? {} : { authority: resolve(options.authority) }),
      };
      const output = outputOf(context, command);
      const answer = (await runJsonProgram(
        'shim/install/main.js',
        ['install', JSON.stringify(request)],
        context.signal,
      )) as InstallAnswer;
      output.result(answer, () => describe(answer, dryRun === true));
      if (dryRun === true) return;
      if (answer.changed || answer.restart.length > 0) {
        if (restart !== true && !(await confirmRestart(context, output, answer.restart))) return;
        await restartServices(answer.restart, context, output);
      }
      if (licenseKey !== undefined) output.note(await activate(answer));
    });
}

/** The key never stands on a command line, where every user of the machine could read it. */
function checkLicenseKey({ licenseKey, restart, dryRun }: InstallOptions): void {
  if (licenseKey === undefined) return;
  if (licenseKey !== '-') {
    throw new LatchkeyError(
      'USAGE_INVALID',
      'a license key on the command line can be read by everybody here',
      {
        hint: 'give --license-key - and the key on standard input',
      },
    );
  }
  if (restart === true || dryRun === true) return;
  throw new LatchkeyError('USAGE_INVALID', '--license-key needs a running agent', {
    hint: "add --restart, or run 'latchkey node activate -' afterwards",
  });
}

/** Gives what to say. A machine that was set up and activated before stays as it is: each use of a join token counts. */
async function activate({ agentSocket, changed }: InstallAnswer): Promise<string> {
  const key = await readLine();
  return withAgent({ socket: agentSocket }, async (agent) => {
    const before = changed ? '' : (await agent.status()).nodeId;
    return before === ''
      ? `activated as ${(await agent.activate(key)).nodeId}`
      : `activated already, as ${before}; 'latchkey node activate' takes another license key`;
  });
}

function describe(answer: InstallAnswer, isDryRun: boolean): string {
  const { containerd, changed, files, mode, notes, next } = answer;
  const runtime =
    containerd === null ? 'without containerd' : `containerd ${containerd.version}, ${containerd.configPath}`;
  const changes = files.filter(({ change }) => change !== 'unchanged');
  const head = changed
    ? `${isDryRun ? 'would set up' : 'set up'} mode ${mode} (${runtime})`
    : `mode ${mode} is set up already (${runtime})`;
  return [
    ...changes.map(({ diff }) => diff),
    head,
    ...(isDryRun ? [] : changes.map(({ path, change }) => `  ${change} ${path}`)),
    ...notes.map((note) => `note: ${note}`),
    ...(next.length === 0 ? [] : [isDryRun ? 'then:' : 'now:', ...next.map((line) => `  ${line}`)]),
  ].join('\n');
}
