import { writeFile } from 'node:fs/promises';
import { type Server, type Socket, createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { processorProgram } from '../../../shim/processor/program.ts';
import { type ProcessorResult, runProcessor } from '../../fakes/processor-run.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const directory = temporaryDirectory();
const skip = process.arch === 'x64' ? false : 'the processor is an x86-64 program';
const servers: Server[] = [];

afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

function socketPath(): string {
  return join(directory(), 'processor.sock');
}

async function listen(onConnection: (socket: Socket) => void, path = socketPath()): Promise<void> {
  const server = createServer(onConnection);
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(path, resolve));
}

async function run(program = processorProgram(socketPath())): Promise<ProcessorResult> {
  const path = join(directory(), 'processor');
  await writeFile(path, program, { mode: 0o755 });
  return runProcessor({ program: path, directory: directory(), input: '/dev/null' }).finished;
}

function expectUnanswered(result: ProcessorResult): void {
  expect(result).toMatchObject({ exitCode: 1, signal: null });
  expect(result.messages).toBe(
    `latchkey: NET_UNREACHABLE: the node agent does not answer at ${socketPath()}; ` +
      `start it with 'latchkey node run'\n`,
  );
  expect(result.messagesAtOutputEnd).toBe(result.messages);
  // containerd drops the message of a processor whose output ends before it has exited.
  expect(result.events.indexOf('exit')).toBeLessThan(result.events.indexOf('output-end'));
}

describe.skipIf(skip !== false)(`the stream processor${skip === false ? '' : ` (skipped: ${skip})`}`, () => {
  test('without an agent says so, fails, and keeps its output open until it has exited', async () => {
    expectUnanswered(await run());
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
    const result = await run();
    expect(result).toMatchObject({ exitCode: status, messages: '' });
    expect(result.output).toHaveLength(0);
    expect(processId).toBeGreaterThan(1);
  });

  test('an agent that hears it and hangs up counts as none', async () => {
    await listen((socket) => socket.once('data', () => socket.destroy()));
    expectUnanswered(await run());
  });

  test('an agent that hangs up before it has heard anything counts as none', async () => {
    await listen((socket) => socket.destroy());
    await writeFile(join(directory(), 'processor'), processorProgram(socketPath()), { mode: 0o755 });
    const program = join(directory(), 'processor');
    const runs = Array.from({ length: 20 }, () =>
      runProcessor({ program, directory: directory(), input: '/dev/null' }),
    );
    for (const { finished } of runs) expectUnanswered(await finished);
  });

  test('has less than a kibibyte', () => {
    expect(processorProgram(socketPath()).length).toBeLessThan(1024);
  });

  test('reaches a socket whose path has the greatest length there is', async () => {
    const path = join(directory(), 'a').padEnd(107, 'a');
    await listen((socket) => socket.once('data', () => socket.end(Buffer.of(0))), path);
    expect(await run(processorProgram(path))).toMatchObject({ exitCode: 0, messages: '' });
  });
});

test.each([
  ['one byte too long', `/tmp/${'a'.repeat(103)}`],
  ['too long in bytes, not in characters', `/tmp/${'ä'.repeat(52)}`],
  ['relative', 'run/processor.sock'],
  ['empty', ''],
  ['with a zero byte', '/run/a\0b'],
])('a socket path that is %s is refused', (_case, path) => {
  expect(() => processorProgram(path)).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
});
