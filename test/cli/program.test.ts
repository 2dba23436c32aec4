import { describe, expect, test } from 'vitest';
import { systemClock } from '#src/base/clock.ts';
import { HostLimit } from '#src/registry/host-limit.ts';
import type { CommandContext } from '../../cli/context.ts';
import { createProgram } from '../../cli/program.ts';

const context: CommandContext = {
  stdout: { write: () => true },
  stderr: { write: () => true },
  env: {},
  clock: systemClock,
  hostLimit: new HostLimit(1),
  signal: new AbortController().signal,
};
const whole = await createProgram(context);
const names = (program: typeof whole) => program.commands.map((command) => command.name());

describe('the command tree', () => {
  test('is whole when no command is named', async () => {
    expect(names(whole)).toContain('encrypt');
    expect(names(await createProgram(context, ['--help']))).toEqual(names(whole));
    expect(names(await createProgram(context, ['help', 'encrypt']))).toEqual(names(whole));
    expect(names(await createProgram(context, ['encrpyt']))).toEqual(names(whole));
    expect(names(await createProgram(context, ['constructor']))).toEqual(names(whole));
  });

  test.each(names(whole))('has only %s when that is named', async (name) => {
    const program = await createProgram(context, ['--quiet', name, '--json']);
    expect(names(program)).toEqual([name]);
    const [only] = program.commands;
    const same = whole.commands.find((command) => command.name() === name);
    expect(only?.helpInformation()).toBe(same?.helpInformation());
  });
});

describe('the help', () => {
  function* leaves(command: typeof whole): Generator<typeof whole> {
    const known = command.commands.filter((one) => one.name() !== 'help');
    if (known.length === 0) yield command;
    for (const one of known) yield* leaves(one);
  }
  const texts = [...leaves(whole)].map((command) => {
    let text = '';
    command.configureOutput({ writeOut: (part) => void (text += part) }).outputHelp();
    return [text.replace(/^Usage: (.*?) \[options][^]*$/, '$1'), text] as const;
  });

  test.each(texts)('of %s shows an example and no empty default', (_name, text) => {
    expect(text).toMatch(/\nExamples?\b|keyprovider/);
    expect(text).not.toContain('default: []');
  });
});
