/**
 * The entry of the single executable: the `latchkey` command, and behind a first argument that people do not use the
 * other programs, which the command and the agent start as processes of their own.
 */
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { getAsset, getAssetKeys, getRawAsset } from 'node:sea';
import { Script, constants } from 'node:vm';
import { ERROR_TABLE, LatchkeyError } from '#src/base/errors.ts';
import { PROGRAM_OPTION } from '#src/base/installation.ts';
import { COMMAND, PROGRAMS, compiledAsset, programAsset, wrapProgram } from './programs.ts';

interface Program {
  main(args: readonly string[]): Promise<void>;
}

function main(args: readonly string[]): Promise<void> {
  // gRPC sets an IP address as TLS server name, which Node deprecates: nothing an operator can act on.
  process.noDeprecation = true;
  const [first = '', ...rest] = args;
  if (!first.startsWith(PROGRAM_OPTION)) return load(COMMAND).main(args);
  const name = first.slice(PROGRAM_OPTION.length);
  if (!Object.hasOwn(PROGRAMS, name)) {
    const error = new LatchkeyError('USAGE_INVALID', `this executable has no program ${name}`);
    process.stderr.write(`latchkey: ${error.line}\n`);
    process.exit(ERROR_TABLE.USAGE_INVALID.exit);
  }
  return load(name).main(rest);
}

function load(name: string): Program {
  const compiled = compiledAsset(name);
  const script = new Script(wrapProgram(getAsset(programAsset(name), 'utf8')), {
    // As stack traces show it.
    filename: programAsset(name),
    importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
    // V8 looks whether it fits, and compiles anew where it does not.
    ...(getAssetKeys().includes(compiled) ? { cachedData: Buffer.from(getRawAsset(compiled)) } : {}),
  });
  const program = { exports: {} };
  const { execPath } = process;
  const define = script.runInThisContext() as (...values: unknown[]) => void;
  define(program.exports, createRequire(execPath), program, execPath, dirname(execPath));
  return program.exports as Program;
}

void main(process.argv.slice(2));
