/**
 * Where the headers and entries of a TOML document stand (toml.io/en/v1.0.0). Only as much as is needed to change single
 * lines: whoever uses it parses the result with a real parser and compares.
 */
import type { TomlPath } from './toml-change.ts';

export interface TomlItem {
  readonly kind: 'table' | 'list' | 'entry';
  /** From the top of the document. */
  readonly path: TomlPath;
  /** Of an entry: what stands before its `=`, indented as it is. */
  readonly left: string;
  readonly firstLine: number;
  /** Values may take several lines. */
  readonly lastLine: number;
}

const KEY_PART = /\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([\w-]+))\s*(\.?)/y;

/** The items in their order; lines that are neither header nor entry are left out. */
export function tomlItems(lines: readonly string[]): TomlItem[] {
  const items: TomlItem[] = [];
  let table: TomlPath = [];
  for (let index = 0; index < lines.length; index += 1) {
    const line = lines[index] ?? '';
    const header = /^\s*(\[\[?)/.exec(line);
    if (header !== null) {
      const { path } = readKey(line, header[0].length);
      table = path;
      const kind = header[1] === '[[' ? 'list' : 'table';
      items.push({ kind, path, left: '', firstLine: index, lastLine: index });
      continue;
    }
    const { path, end } = readKey(line, 0);
    if (path.length === 0 || line[end] !== '=') continue;
    const lastLine = lastLineOfValue(lines, index, end + 1);
    const left = line.slice(0, end).trimEnd();
    items.push({ kind: 'entry', path: [...table, ...path], left, firstLine: index, lastLine });
    index = lastLine;
  }
  return items;
}

/** A dotted key from a place on; an empty path when there is none. */
function readKey(line: string, from: number): { path: string[]; end: number } {
  const path: string[] = [];
  let end = from;
  for (;;) {
    KEY_PART.lastIndex = end;
    const match = KEY_PART.exec(line);
    if (match === null) return { path, end };
    const [whole, basic, literal, bare, dot] = match;
    path.push(basic === undefined ? (literal ?? bare ?? '') : unescaped(basic));
    end += whole.length;
    if (dot !== '.') return { path, end };
  }
}

function unescaped(basic: string): string {
  try {
    return JSON.parse(`"${basic}"`) as string;
  } catch {
    return basic;
  }
}

/** The line on which the value ends that begins at a column: brackets, strings and comments are followed. */
function lastLineOfValue(lines: readonly string[], first: number, column: number): number {
  let depth = 0;
  let quote = '';
  for (let index = first; index < lines.length; index += 1) {
    const line = lines[index] ?? '';
    for (let at = index === first ? column : 0; at < line.length; at += 1) {
      const rest = line.slice(at);
      if (quote !== '') {
        if (rest.startsWith('\\') && quote.startsWith('"')) at += 1;
        else if (rest.startsWith(quote)) {
          at += quote.length - 1;
          quote = '';
        }
      } else if (rest.startsWith('#')) break;
      else if (/^["']/.test(rest)) {
        quote = /^(?:"""|'''|"|')/.exec(rest)?.[0] ?? '';
        at += quote.length - 1;
      } else if (/^[[{]/.test(rest)) depth += 1;
      else if (/^[\]}]/.test(rest)) depth -= 1;
    }
    const isOpen = depth > 0 || quote.length === 3;
    if (!isOpen) return index;
  }
  return lines.length - 1;
}
