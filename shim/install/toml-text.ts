/**
 * Changes in the text of a TOML file of somebody else, so that comments, order and layout stay, and so that they can be
 * taken out again: the lines of ours are marked, and lines that had to give way are kept as marked comments.
 */
import { parse } from 'smol-toml';
import { LatchkeyError } from '#src/base/errors.ts';
import {
  type TomlChange,
  type TomlTable,
  type TomlValue,
  changedTable,
  isSameToml,
  ownTable,
  valueAt,
} from './toml-change.ts';
import { type TomlItem, tomlItems } from './toml-lines.ts';

/** At the end of a line of ours in a table of somebody else. */
const OURS = ' # set by latchkey';
/** Before a line of the operator that ours replaces. */
const KEPT = '#latchkey# ';
const BEGIN = '# begin latchkey';
/** The file had no end of line at its end, and gets that back. */
const BEGIN_JOINED = `${BEGIN} (joined)`;
const END = '# end latchkey';

/**
 * The text with the changes in it, in place of those that an earlier call made.
 * @param path of the file, for messages
 * @throws LatchkeyError CONFIG_INVALID for a text that is not TOML, or is written so that lines cannot be put in
 */
export function withChanges(text: string, changes: readonly TomlChange[], path: string): string {
  const original = withoutChanges(text);
  const document = parseToml(original, path);
  const needed = changes.filter((change) => !isThere(document, change));
  const result = edited(original, needed);
  if (!says(result, changedTable(document, changes))) {
    const hard = needed.filter(
      (change) => !says(edited(original, [change]), changedTable(document, [change])),
    );
    throw new LatchkeyError(
      'CONFIG_INVALID',
      `${path} is written in a way that Latchkey cannot add lines to`,
      {
        hint: `write ${namesOf(hard.length > 0 ? hard : needed)} as ordinary [tables], one setting a line; nothing was changed`,
      },
    );
  }
  return result;
}

/** A table that is written inline, or by dotted keys, cannot get a header as well. */
function says(text: string, wanted: TomlTable): boolean {
  try {
    return isSameToml(parse(text), wanted);
  } catch {
    return false;
  }
}

/** The text as it was before `withChanges`, byte by byte, with what others have changed since. */
export function withoutChanges(text: string): string {
  const kept: string[] = [];
  /** A block that has begun; without its end it is somebody else's text, or was ours and has been changed by others. */
  let block: string[] | undefined;
  /** How much there was when a joined block ended: only the end of line that follows is then ours. */
  let joinedAt: number | undefined;
  for (const line of text.split('\n')) {
    const bare = line.trimEnd();
    if (bare === BEGIN || bare === BEGIN_JOINED) {
      kept.push(...(block ?? []));
      block = [line];
      joinedAt = bare === BEGIN_JOINED ? kept.length : undefined;
    } else if (block !== undefined) {
      if (bare === END) block = undefined;
      else block.push(line);
    } else if (line.startsWith(KEPT)) kept.push(line.slice(KEPT.length));
    else if (!bare.endsWith(OURS)) kept.push(line);
  }
  kept.push(...(block ?? []));
  if (joinedAt === kept.length - 1 && kept.at(-1) === '') kept.pop();
  return kept.join('\n');
}

/** @throws LatchkeyError CONFIG_INVALID naming the file, in one line */
export function parseToml(text: string, path: string): TomlTable {
  try {
    return parse(text);
  } catch (error) {
    const [line] = (error instanceof Error ? error.message : String(error)).split('\n');
    throw new LatchkeyError('CONFIG_INVALID', `${path} is not valid: ${line ?? ''}`, {
      hint: 'mend it first; nothing was changed',
      cause: error,
    });
  }
}

function isThere(document: TomlTable, change: TomlChange): boolean {
  switch (change.kind) {
    case 'set':
      return isSameToml(valueAt(document, [...change.table, change.key]), change.value);
    case 'own':
      return isSameToml(valueAt(document, change.table), ownTable(change));
    case 'append': {
      const list = valueAt(document, change.table);
      return Array.isArray(list) && list.some((entry) => isSameToml(entry, change.entries));
    }
  }
}

function edited(original: string, changes: readonly TomlChange[]): string {
  const lines = original.split('\n');
  const items = tomlItems(lines);
  /** Line number -> lines of ours before it. */
  const inserted = new Map<number, string[]>();
  const replaced = new Set<number>();
  const added: TomlChange[] = [];
  const insert = (line: number, text: string) =>
    inserted.set(line, [...(inserted.get(line) ?? []), `${text}${OURS}`]);
  for (const change of changes) {
    const place = change.kind === 'set' ? placeOf(items, change) : undefined;
    if (change.kind !== 'set' || place === undefined) {
      added.push(change);
      if (change.kind !== 'own') continue;
      for (const item of items) if (startsWith(item.path, change.table)) markLines(replaced, item);
    } else if (place.kind === 'entry') {
      markLines(replaced, place);
      insert(place.firstLine, `${place.left} = ${formatValue(change.value)}`);
    } else {
      const indent = /^\s*/.exec(lines[place.firstLine] ?? '')?.[0] ?? '';
      insert(place.firstLine + 1, `${indent}  ${entryLine(change.key, change.value)}`);
    }
  }
  const body = lines.flatMap((line, index) => [
    ...(inserted.get(index) ?? []),
    replaced.has(index) ? `${KEPT}${line}` : line,
  ]);
  return withBlock([...body, ...(inserted.get(lines.length) ?? [])].join('\n'), blockLines(added));
}

/** The tables that the file does not have. */
function blockLines(changes: readonly TomlChange[]): string[] {
  const tables = new Map<string, string[]>();
  const add = (header: string, entries: Readonly<Record<string, TomlValue>>) => {
    const entryLines = Object.entries(entries).map(([key, value]) => entryLine(key, value));
    tables.set(header, [...(tables.get(header) ?? []), ...entryLines]);
  };
  const lists: string[] = [];
  for (const change of changes) {
    const name = formatPath(change.table);
    if (change.kind === 'set') add(name === '' ? '' : `[${name}]`, { [change.key]: change.value });
    else if (change.kind === 'own') {
      add(`[${name}]`, change.entries);
      for (const [key, entries] of Object.entries(change.tables ?? {}))
        add(`[${formatPath([...change.table, key])}]`, entries);
    } else
      lists.push(
        `[[${name}]]`,
        ...Object.entries(change.entries).map(([key, value]) => entryLine(key, value)),
      );
  }
  return [
    ...[...tables].flatMap(([header, entries]) => (header === '' ? entries : [header, ...entries])),
    ...lists,
  ];
}

function withBlock(body: string, block: readonly string[]): string {
  if (block.length === 0) return body;
  const isJoined = body !== '' && !body.endsWith('\n');
  const begin = isJoined ? `\n${BEGIN_JOINED}` : BEGIN;
  return `${body}${[begin, ...block, END].join('\n')}\n`;
}

/** The entry itself, or else the header of its table. */
function placeOf(
  items: readonly TomlItem[],
  change: Extract<TomlChange, { kind: 'set' }>,
): TomlItem | undefined {
  const path = [...change.table, change.key];
  const entry = items.find((item) => item.kind === 'entry' && isSame(item.path, path));
  return entry ?? items.find((item) => item.kind === 'table' && isSame(item.path, change.table));
}

function markLines(lines: Set<number>, { firstLine, lastLine }: TomlItem): void {
  for (let line = firstLine; line <= lastLine; line += 1) lines.add(line);
}

function isSame(left: readonly string[], right: readonly string[]): boolean {
  return left.length === right.length && startsWith(left, right);
}

function startsWith(path: readonly string[], prefix: readonly string[]): boolean {
  return prefix.every((part, index) => path[index] === part);
}

function entryLine(key: string, value: TomlValue): string {
  return `${formatPath([key])} = ${formatValue(value)}`;
}

/** JSON's strings are TOML's basic strings. */
function formatValue(value: TomlValue): string {
  return typeof value === 'object'
    ? `[${value.map((entry) => JSON.stringify(entry)).join(', ')}]`
    : JSON.stringify(value);
}

function formatPath(path: readonly string[]): string {
  return path.map((part) => (/^[\w-]+$/.test(part) ? part : JSON.stringify(part))).join('.');
}

function namesOf(changes: readonly TomlChange[]): string {
  return [...new Set(changes.map(({ table }) => formatPath(table)).filter((name) => name !== ''))].join(', ');
}
