/**
 * `install`, `uninstall`, `restart` and `doctor` as a program of their own: one JSON document in, one out, which the
 * `latchkey` command words for people.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import * as z from 'zod';
import { ERROR_TABLE, LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import { programCommand } from '#src/base/installation.ts';
import { parseJson } from '#src/base/json.ts';
import { doctorRequestSchema, examine } from './node-facts.ts';
import { install } from './install.ts';
import { type Machine, installRequestSchema, uninstallRequestSchema } from './machine.ts';
import { runCommands } from './next-steps.ts';
import { HOOKS_DIRECTORY } from './oci-hook.ts';
import { listProcesses } from './processes.ts';
import { uninstall } from './uninstall.ts';

const SYSTEMD_RUNS = '/run/systemd/system';
const UNITS = '/etc/systemd/system';
const PACKAGED_UNITS = '/usr/lib/systemd/system';

const CHANGES = 'this changes files of the system and needs root';
const DRY_RUN = 'use sudo; with --dry-run it only shows what it would do';

const run = promisify(execFile);

/** Runs one verb and ends the process. @param args the verb and its request as JSON */
export async function main(args: readonly string[]): Promise<void> {
  try {
    const [verb = '', request = '{}'] = args;
    const result = await answer(verb, parseJson(request, 'the request'));
    process.stdout.write(`${JSON.stringify(result)}\n`);
  } catch (error) {
    const { code, message, hint } = toLatchkeyError(error);
    process.stdout.write(`${JSON.stringify({ error: { code, message, hint } })}\n`);
    process.exitCode = ERROR_TABLE[code].exit;
  }
}

async function answer(verb: string, request: unknown): Promise<unknown> {
  switch (verb) {
    case 'install': {
      const wanted = checked(installRequestSchema, request);
      if (!wanted.dryRun) refuseOthersThanRoot(CHANGES, DRY_RUN);
      return install(wanted, await thisMachine());
    }
    case 'uninstall': {
      const wanted = checked(uninstallRequestSchema, request);
      if (!wanted.dryRun) refuseOthersThanRoot(CHANGES, DRY_RUN);
      const mounts = await readFile('/proc/self/mounts', 'utf8');
      return uninstall(wanted, { machine: await thisMachine(), run, mounts });
    }
    case 'doctor':
      // What others cannot see would be called missing.
      refuseOthersThanRoot('this looks at files and processes that only root may see', 'use sudo');
      return examine(checked(doctorRequestSchema, request));
    case 'restart': {
      const { commands } = checked(z.strictObject({ commands: z.array(z.array(z.string())) }), request);
      await runCommands(commands, run);
      return {};
    }
    default:
      throw new LatchkeyError('USAGE_INVALID', 'expected install, uninstall, restart or doctor');
  }
}

/** @throws LatchkeyError USAGE_INVALID naming the option */
export function checked<Schema extends z.ZodType>(schema: Schema, request: unknown): z.infer<Schema> {
  const parsed = schema.safeParse(request);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const option = String(issue?.path[0] ?? '').replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  throw new LatchkeyError('USAGE_INVALID', `--${option}: ${issue?.message ?? 'is wrong'}`);
}

function refuseOthersThanRoot(why: string, hint: string): void {
  if (process.getuid?.() === 0) return;
  throw new LatchkeyError('CONFIG_INVALID', why, { hint });
}

async function thisMachine(): Promise<Machine> {
  const directories = (process.env['PATH'] ?? '').split(':');
  return {
    processes: await listProcesses(),
    programs: ['crio', 'podman'].filter((name) => directories.some((path) => existsSync(join(path, name)))),
    hasSystemd: existsSync(SYSTEMD_RUNS),
    units: UNITS,
    packagedUnits: PACKAGED_UNITS,
    hooks: HOOKS_DIRECTORY,
    agentCommand: programCommand('cli/latchkey.js', ['node', 'run']),
    platform: `linux/${process.arch === 'x64' ? 'amd64' : process.arch}`,
  };
}
