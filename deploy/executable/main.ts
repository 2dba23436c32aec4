/**
 * The entry of the single executable: the `latchkey` command, and behind a first argument that people do not use the
 * other programs, which the command and the agent start as processes of their own.
 */
import { ERROR_TABLE, LatchkeyError } from '#src/base/errors.ts';
import { PROGRAM_OPTION } from '#src/base/installation.ts';

interface Program {
  main(args: readonly string[]): Promise<void>;
}

/** By the path of the script that starts them where there are sources. */
const PROGRAMS: Readonly<Record<string, () => Promise<Program>>> = {
  'shim/agent/main.js': () => import('../../shim/agent/main.ts'),
  'shim/install/main.js': () => import('../../shim/install/main.ts'),
  'shim/processor/main.js': () => import('../../shim/processor/node-processor.ts'),
  'keyserver/main.js': () => import('../../keyserver/main.ts'),
};

async function main(args: readonly string[]): Promise<void> {
  // gRPC sets an IP address as TLS server name, which Node deprecates: nothing an operator can act on.
  process.noDeprecation = true;
  const [first = '', ...rest] = args;
  if (!first.startsWith(PROGRAM_OPTION)) {
    const command = await import('../../cli/main.ts');
    return command.main(args);
  }
  const name = first.slice(PROGRAM_OPTION.length);
  const load = Object.hasOwn(PROGRAMS, name) ? PROGRAMS[name] : undefined;
  if (load === undefined) {
    const error = new LatchkeyError('USAGE_INVALID', `this executable has no program ${name}`);
    process.stderr.write(`latchkey: ${error.line}\n`);
    process.exit(ERROR_TABLE.USAGE_INVALID.exit);
  }
  return (await load()).main(rest);
}

void main(process.argv.slice(2));
