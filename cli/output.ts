/** How commands speak: results on stdout (text or one JSON document), remarks on stderr. */
import { styleText } from 'node:util';
import type { Command } from 'commander';
import type { CommandContext, TextSink } from './context.ts';

/** Options every command has; declared once on the program. */
export interface GlobalOptions {
  readonly json?: boolean;
  readonly quiet?: boolean;
}

export interface Output {
  readonly json: boolean;
  readonly quiet: boolean;
  /** The command's result: the value as JSON with `--json`, else the text. */
  result(value: unknown, text: () => string): void;
  /** A remark for a person, on stderr; silent with `--json` and `--quiet`. */
  note(line: string): void;
}

/** The contexts whose one JSON document has been written. */
const answered = new WeakSet<CommandContext>();

/** True once a result was written as JSON: what fails afterwards is no second document. */
export function hasAnswered(context: CommandContext): boolean {
  return answered.has(context);
}

/** The output of a running command, as its global options ask. */
export function outputOf(context: CommandContext, command: Command): Output {
  const { json = false, quiet = false } = command.optsWithGlobals<GlobalOptions>();
  return {
    json,
    quiet,
    result: (value, text) => {
      if (json) answered.add(context);
      context.stdout.write(json ? `${toJson(value)}\n` : ensureNewline(text()));
    },
    note: (line) => {
      if (!json && !quiet) context.stderr.write(`${escapeLine(line)}\n`);
    },
  };
}

function ensureNewline(text: string): string {
  return text === '' || text.endsWith('\n') ? text : `${text}\n`;
}

/**
 * Text of others for a line of output: control characters and newlines as JSON writes them (`\\u001b`), so that
 * a name cannot steer the terminal it is shown on.
 */
export function escapeLine(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Bidi_Control}\u2028\u2029]/gu, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}

/** JSON.stringify leaves C1 controls as they are, and terminals obey them. */
function toJson(value: unknown): string {
  return JSON.stringify(value, null, 2).split('\n').map(escapeLine).join('\n');
}

/** Columns that line up, with a header row. Cells are shown as one line of plain text. */
export function formatTable(
  headers: readonly string[],
  unescapedRows: readonly (readonly string[])[],
): string {
  const rows = unescapedRows.map((row) => row.map(escapeLine));
  const widths = headers.map((header, column) =>
    Math.max(header.length, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd();
  return `${[headers, ...rows].map(line).join('\n')}\n`;
}

/** `key  value` lines that line up; fields without a value are left out. */
export function formatFields(
  fields: readonly (readonly [name: string, value: string | undefined])[],
): string {
  const shown = fields.flatMap(([name, value]) =>
    value === undefined ? [] : [[name, escapeLine(value)] as const],
  );
  const width = Math.max(0, ...shown.map(([name]) => name.length));
  return shown.map(([name, value]) => `${name.padEnd(width)}  ${value}\n`).join('');
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

/** `12.3 MiB` */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit] ?? ''}`;
}

/** Text in a style, where the sink is a terminal. */
export function styled(sink: TextSink, style: Parameters<typeof styleText>[0], text: string): string {
  return sink.isTTY === true ? styleText(style, text, { validateStream: false }) : text;
}
