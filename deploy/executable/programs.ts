/**
 * The programs in the executable, each in a piece of its own that is loaded when it is wanted: an agent runs for months and
 * should not hold the key server's code in memory (measured, docs/decisions.md).
 */

/** The `latchkey` command; the others are started by it and by the agent. */
export const COMMAND = 'cli/latchkey.js';

/** By the path of the script that starts a program where there are sources: its module, which has a `main`. */
export const PROGRAMS: Readonly<Record<string, string>> = {
  [COMMAND]: 'cli/main.ts',
  'shim/agent/main.js': 'shim/agent/main.ts',
  'shim/install/main.js': 'shim/install/main.ts',
  'shim/processor/main.js': 'shim/processor/node-processor.ts',
  'keyserver/main.js': 'keyserver/main.ts',
};

/** Sources of the threads that they start. */
export const WORKERS: readonly string[] = [
  'src/image/hash-worker.ts',
  'shim/agent/decrypt-worker.ts',
  'keyserver/custody/release-worker.ts',
];

/** Asset that has a program's code. */
export function programAsset(script: string): string {
  return script.replaceAll('/', '-').replace(/\.js$/, '.cjs');
}

/** Asset that has what V8 made of that code; only where it was made for the architecture that it runs on. */
export function compiledAsset(script: string): string {
  return `${programAsset(script)}.compiled`;
}

/** A CommonJS module as Node wraps it (node:module, wrap). */
export function wrapProgram(source: string): string {
  return `(function (exports, require, module, __filename, __dirname) {${source}\n})`;
}
