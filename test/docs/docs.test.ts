/** What the documentation says is true of the code: commands, options, codes, settings, links. */
import { execFile, execFileSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import type { Command } from 'commander';
import { describe, expect, test } from 'vitest';
import { systemClock } from '#src/base/clock.ts';
import { ERROR_TABLE, isErrorCode } from '#src/base/errors.ts';
import { AUDIT_GENESIS_HASH, type AuditEvent, auditHash } from '#src/crypto/audit-chain.ts';
import { HostLimit } from '#src/registry/host-limit.ts';
import { createProgram } from '../../cli/program.ts';
import { parseAgentConfig } from '../../shim/agent/agent-config.ts';
import { MODE_MEANINGS, NODE_MODES } from '../../shim/agent/node-mode.ts';
import { commandLineFault, commandLines, fencedBlocks, hasOption, inlineCode } from './command-lines.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const FILES = [
  'README.md',
  ...readdirSync(join(ROOT, 'docs'))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
];
const OPERATOR_GUIDE = read('docs/operator-guide.md');
const ERROR_CODE =
  /(?<![A-Z_])(?:USAGE|CONFIG|INPUT|CRYPTO|KEY|AUTH|DENIED|NET|STATE|STORAGE|LIMIT|BUG)_[A-Z][A-Z_]*[A-Z](?![A-Z_*])/g;

const program = await newProgram();

function newProgram(): Promise<Command> {
  return createProgram({
    stdout: { write: () => true },
    stderr: { write: () => true },
    env: {},
    clock: systemClock,
    hostLimit: new HostLimit(1),
    signal: new AbortController().signal,
  });
}

function read(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8');
}

/** The cells of the table rows whose first cell is code. */
function codeRows(markdown: string): string[][] {
  return markdown
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) =>
      line
        .split('|')
        .map((cell) => cell.trim())
        .slice(1, -1),
    );
}

describe('command lines', () => {
  test('there are some to check', () => {
    expect(FILES.flatMap((path) => commandLines(read(path))).length).toBeGreaterThan(30);
  });

  test.each(FILES)('in the blocks of %s could be run', (path) => {
    const faults = commandLines(read(path)).flatMap((line) => {
      const fault = commandLineFault(program, line);
      return fault === undefined ? [] : [`${line}: ${fault}`];
    });
    expect(faults).toEqual([]);
  });

  test.each(FILES)('in the prose of %s name commands and options that exist', (path) => {
    const faults = inlineCode(read(path)).flatMap((code) => {
      const [option] = /^--[a-z][a-z-]*/.exec(code) ?? [];
      if (option !== undefined) return hasOption(program, option) ? [] : [code];
      if (!/^(?:latchkey|license|customer|product|node|audit|token|release) [a-z]/.test(code)) return [];
      const line = code.startsWith('latchkey ') ? code : `latchkey ${code}`;
      const fault = commandLineFault(program, line, true);
      return fault === undefined ? [] : [`${code}: ${fault}`];
    });
    expect(faults).toEqual([]);
  });

  test('fail when an option is renamed', async () => {
    const changed = await newProgram();
    const encrypt = changed.commands.find((command) => command.name() === 'encrypt');
    const base = encrypt?.options.find(({ long }) => long === '--base');
    if (base === undefined) throw new Error('encrypt has no --base');
    base.long = '--base-image';
    const lines = commandLines(read('docs/release-engineer-guide.md'));
    const faults = lines.flatMap((line) => commandLineFault(changed, line) ?? []);
    expect(faults).toContain('there is no option --base in "encrypt"');
  });

  test.each([
    ['latchkey license revok lic_1', 'no command'],
    ['latchkey license revoke', 'lacks an argument'],
    ['latchkey license revoke lic_1 lic_2', 'too many'],
    ['latchkey license revoke lic_1 --because x', 'no option --because'],
    ['latchkey license create --customer c', 'lacks --product'],
    ['latchkey license create --customer c --product p --on-revoke panic', 'does not take'],
    ['latchkey node', 'needs a command'],
    ['latchkey serve --data', 'lacks its value'],
  ])('%s is found to be wrong', (line, fault) => {
    expect(commandLineFault(program, line)).toContain(fault);
  });
});

describe('error codes', () => {
  test.each(FILES)('of %s exist', (path) => {
    const named = [...read(path).matchAll(ERROR_CODE)].map(([code]) => code);
    expect(named.filter((code) => !isErrorCode(code))).toEqual([]);
  });

  test('that refuse a start are all explained to the operator', () => {
    const explained = new Set(codeRows(OPERATOR_GUIDE).map(([code]) => code?.replaceAll('`', '')));
    const denials = Object.keys(ERROR_TABLE).filter((code) => code.startsWith('DENIED_'));
    expect(denials.filter((code) => !explained.has(code))).toEqual([]);
  });

  test('stand in the table of exit statuses where the code has them', () => {
    const table = read('docs/release-engineer-guide.md')
      .split('\n')
      .flatMap((line) => {
        const row = /^\| (\d+) \| [^|]+ \| (.+) \|$/.exec(line);
        const codes = [...(row?.[2] ?? '').matchAll(/`([A-Z_]+)`/g)];
        return codes.map(([, code]) => [code, Number(row?.[1])]);
      });
    const actual = Object.entries(ERROR_TABLE).map(([code, { exit }]) => [code, exit]);
    expect(Object.fromEntries(table)).toEqual(Object.fromEntries(actual));
    expect(table.length).toBe(actual.length);
  });
});

describe('settings of the agent', () => {
  const example = fencedBlocks(OPERATOR_GUIDE).find(({ language }) => language === 'toml')?.text ?? '';
  const settingRows = codeRows(/^Every setting:\n([\s\S]*?)^#/m.exec(OPERATOR_GUIDE)?.[1] ?? '');
  const settings = [...example.matchAll(/^(\w+) =/gm)].map((match) => match[1] ?? '');

  test('are all in the example and in the table, and no others', () => {
    const schema = /z\.strictObject\(\{([\s\S]*?)^\}\);/m.exec(read('shim/agent/agent-config.ts'))?.[1] ?? '';
    const known = [...schema.matchAll(/^ {2}(\w+): ?/gm)].map((match) => match[1] ?? '').sort();
    const rows = settingRows.map(([code]) => code?.replaceAll('`', '') ?? '');
    expect(known.length).toBeGreaterThan(5);
    // What is off unless it is set has no default that the example could show.
    const off = settingRows.flatMap(([code, shown]) =>
      shown === 'off' && code !== undefined ? [code.replaceAll('`', '')] : [],
    );
    expect([...settings, ...off].sort()).toEqual(known);
    expect(rows.filter((name) => /^[a-z_]+$/.test(name)).sort()).toEqual(known);
  });

  test('have the defaults that the example and the table show', () => {
    const required = /^(?:key_server|enrollment|authority_file|node_name) = .*$/gm;
    const minimal = parseAgentConfig(
      [...example.matchAll(required)].map(([line]) => line).join('\n'),
      'minimal',
    );
    expect(parseAgentConfig(example, 'example')).toEqual(minimal);
    for (const [code, shown] of settingRows) {
      const name = code?.replaceAll('`', '') ?? '';
      const [, value] = new RegExp(`^${name} = "?([^"\\n]+)"?$`, 'm').exec(example) ?? [];
      if (value === undefined || !settings.includes(name) || shown === 'required') continue;
      expect({ name, value: shown }).toEqual({ name, value: `\`${value}\`` });
    }
  });
});

describe('modes', () => {
  test('are in the operator’s table as `node status` words them', () => {
    const table = /^### Modes\n([\s\S]*?)^### /m.exec(OPERATOR_GUIDE)?.[1] ?? '';
    const rows = Object.fromEntries(codeRows(table).map(([mode = '', ...meaning]) => [mode, meaning]));
    const expected = NODE_MODES.map((mode) => {
      const { protects, doesNotProtect } = MODE_MEANINGS[mode];
      return [`\`${mode}\``, [protects, doesNotProtect]];
    });
    expect(rows).toEqual(Object.fromEntries(expected));
  });
});

describe('attacks', () => {
  const section = /^## Attacks\n([\s\S]*?)^## /m.exec(read('docs/format.md'))?.[1] ?? '';
  const tests = [...section.matchAll(/`(test\/[^`]+)`: (.+?)(?=<br>| \|)/g)].map((match) => ({
    path: match[1] ?? '',
    name: match[2] ?? '',
  }));

  test('name a test each', () => {
    const rows = section.split('\n').filter((line) => line.startsWith('| ') && !line.startsWith('| attack '));
    expect(rows.length).toBeGreaterThan(20);
    expect(rows.filter((row) => !row.includes('| `test/'))).toEqual([]);
  });

  test.each(tests)('have the test $path: $name', ({ path, name }) => {
    const text = read(path);
    const quotes = ["'", '"'];
    expect(quotes.some((quote) => text.includes(`${quote}${name}`))).toBe(true);
  });
});

describe('links', () => {
  test.each(FILES)('of %s lead somewhere', (path) => {
    const targets = [...read(path).matchAll(/\]\(([^)\s]+)\)/g)].map((match) => match[1] ?? '');
    const broken = targets.filter((target) => {
      if (/^https?:/.test(target)) return false;
      const [file = '', anchor] = target.split('#');
      const linked = file === '' ? path : join(dirname(path), file);
      if (!existsSync(join(ROOT, linked))) return true;
      return anchor !== undefined && !anchorsOf(read(linked)).includes(anchor);
    });
    expect(broken).toEqual([]);
  });
});

function anchorsOf(markdown: string): string[] {
  return [...markdown.matchAll(/^#+ (.+)$/gm)].map(([, title = '']) =>
    title
      .toLowerCase()
      .replaceAll(/[^\w\s-]/g, '')
      .replaceAll(' ', '-'),
  );
}

describe.skipIf(!hasPython())('the auditor’s own check (needs python3)', () => {
  const script = fencedBlocksRaw(read('docs/auditor-guide.md'), 'python');

  test('accepts a true log and refuses a changed one', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'latchkey-docs-'));
    const check = async (events: readonly AuditEvent[]): Promise<string> => {
      const path = join(directory, 'audit.jsonl');
      await writeFile(path, events.map((event) => `${JSON.stringify(event)}\n`).join(''));
      return promisify(execFile)('python3', ['-c', script, path]).then(
        ({ stdout }) => stdout,
        (error: unknown) => (error as { stderr: string }).stderr,
      );
    };
    try {
      const events = chain(5);
      expect(await check(events)).toBe(`5 events, last hash ${events.at(-1)?.hash ?? ''}\n`);
      const changed = events.map((event) => (event.sequence === 3 ? { ...event, actor: 'system' } : event));
      expect(await check(changed)).toContain('event 3');
      expect(await check(events.toSpliced(1, 1))).toContain('event 3 (expected 2)');
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  });
});

/** Events with whatever canonical JSON has to spell: nesting, other scripts, control characters. */
function chain(length: number): AuditEvent[] {
  const events: AuditEvent[] = [];
  for (let sequence = 1; sequence <= length; sequence += 1) {
    const body = {
      sequence,
      organizationId: 'org_1',
      timeMs: 1_795_328_511_600 + sequence,
      actor: 'token:token_1',
      action: 'license.revoke',
      target: 'lic_1',
      outcome: 'done',
      code: sequence % 2 === 0 ? null : 'DENIED_LICENSE_REVOKED',
      ...(sequence % 2 === 0 ? {} : { authMethod: 'api-token', requestId: '0191b2f0' }),
      detail: {
        reason: 'Zahlung "offen" \\ – ü 😀 \u0001\u007f\n',
        b: [1, 'x', null],
        a: { d: true, c: -7 },
      },
    };
    const previousHash = events.at(-1)?.hash ?? AUDIT_GENESIS_HASH;
    events.push({ ...body, previousHash, hash: auditHash(previousHash, body) });
  }
  return events;
}

function hasPython(): boolean {
  try {
    execFileSync('python3', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** The first block of a language, with its indentation. */
function fencedBlocksRaw(markdown: string, language: string): string {
  return new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\`$`, 'm').exec(markdown)?.[1] ?? '';
}
