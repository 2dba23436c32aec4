import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { type Server, type Socket, createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { programCommand } from '#src/base/installation.ts';
import { nodeProcessorScript } from '../../../shim/processor/node-processor.ts';
import { hasNativeProcessor, processorProgram } from '../../../shim/processor/program.ts';
import { type ProcessorResult, runProcessor } from '../../fakes/processor-run.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const directory = temporaryDirectory();
const servers: Server[] = [];

afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

interface Kind {
  readonly name: string;
  readonly program: (socket: string) => Buffer | string;
  /** Runs a program of an architecture that this machine has not. */
  readonly emulator?: string;
}

/** Debian's qemu-user-static. */
const emulatorOf = (machine: string) => `/usr/bin/qemu-${machine}-static`;

const NATIVE = { x64: 'x86_64', arm64: 'aarch64' } as const;

const kinds: Kind[] = [
  ...(['x64', 'arm64'] as const).map((architecture) => ({
    name: `native on ${architecture}`,
    program: (socket: string) => processorProgram(socket, architecture),
    ...(process.arch === architecture ? {} : { emulator: emulatorOf(NATIVE[architecture]) }),
  })),
  {
    name: 'run by Node',
    program: (socket) => nodeProcessorScript(programCommand('shim/processor/main.js'), socket),
  },
];

function socketPath(): string {
  return join(directory(), 'processor.sock');
}

async function listen(onConnection: (socket: Socket) => void, path = socketPath()): Promise<void> {
  const server = createServer(onConnection);
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(path, resolve));
}

/** Writes a file that runs the processor, and gives its path. */
async function install({ program, emulator }: Kind, socket = socketPath()): Promise<string> {
  const path = join(directory(), 'processor');
  await writeFile(path, program(socket), { mode: 0o755 });
  if (emulator === undefined) return path;
  const wrapper = join(directory(), 'emulated');
  await writeFile(wrapper, `#!/bin/sh\nexec ${emulator} ${path}\n`, { mode: 0o755 });
  return wrapper;
}

async function run(kind: Kind, socket = socketPath()): Promise<ProcessorResult> {
  const program = await install(kind, socket);
  return runProcessor({ program, directory: directory(), input: '/dev/null' }).finished;
}

function expectUnanswered(result: ProcessorResult): void {
  expect(result).toMatchObject({ exitCode: 1, signal: null });
  expect(result.messages).toBe(
    `latchkey: NET_UNREACHABLE: the node agent does not answer at ${socketPath()}; ` +
      `start it with 'latchkey node run'`,
  );
  expect(result.messagesAtOutputEnd).toBe(result.messages);
  // containerd drops the message of a processor whose output ends before it has exited.
  expect(result.events.indexOf('exit')).toBeLessThan(result.events.indexOf('output-end'));
}

describe.each(kinds)('the stream processor, $name', (kind) => {
  const { emulator } = kind;
  const missing = emulator !== undefined && !existsSync(emulator);
  const skip = missing ? ` (skipped: needs ${emulator}, from Debian's qemu-user-static)` : '';

  describe.skipIf(missing)(`between containerd and the agent${skip}`, () => {
    test('without an agent says so, fails, and keeps its output open until it has exited', async () => {
      expectUnanswered(await run(kind));
    });

    test.each([0, 1, 77])('tells its process id and exits with the byte %i of the answer', async (status) => {
      let processId = 0;
      await listen((socket) => {
        socket.once('data', (data) => {
          expect(data).toHaveLength(4);
          processId = data.readInt32LE();
          socket.end(Buffer.of(status));
        });
      });
      const result = await run(kind);
      expect(result).toMatchObject({ exitCode: status, messages: '' });
      expect(result.output).toHaveLength(0);
      expect(processId).toBeGreaterThan(1);
    });

    test('an agent that hears it and hangs up counts as none', async () => {
      await listen((socket) => socket.once('data', () => socket.destroy()));
      expectUnanswered(await run(kind));
    });

    test('an agent that hangs up before it has heard anything counts as none', async () => {
      await listen((socket) => socket.destroy());
      const program = await install(kind);
      // One after another: many at once keep this process from seeing in which order things end.
      for (let round = 0; round < 10; round += 1) {
        expectUnanswered(
          await runProcessor({ program, directory: directory(), input: '/dev/null' }).finished,
        );
      }
    });

    test('reaches a socket whose path has the greatest length there is', async () => {
      const path = join(directory(), "it's").padEnd(107, 'a');
      await listen((socket) => socket.once('data', () => socket.end(Buffer.of(0))), path);
      expect(await run(kind, path)).toMatchObject({ exitCode: 0, messages: '' });
    });
  });

  test.each([
    ['one byte too long', `/tmp/${'a'.repeat(103)}`],
    ['too long in bytes, not in characters', `/tmp/${'ä'.repeat(52)}`],
    ['relative', 'run/processor.sock'],
    ['empty', ''],
    ['with a zero byte', '/run/a\0b'],
  ])('is not made for a socket path that is %s', (_case, path) => {
    expect(() => kind.program(path)).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
  });
});

test.each(['x64', 'arm64'] as const)(
  'the native processor on %s has less than a kibibyte',
  (architecture) => {
    expect(hasNativeProcessor(architecture)).toBe(true);
    expect(processorProgram(`/${'a'.repeat(100)}`, architecture).length).toBeLessThan(1024);
  },
);

test('an architecture that nobody has written code for has no native processor', () => {
  expect(['riscv64', 'toString', ''].filter(hasNativeProcessor)).toEqual([]);
});
