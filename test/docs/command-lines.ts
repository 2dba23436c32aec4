/** Finds command lines in Markdown, and says what is wrong with them by the real command tree. */
import type { Command, Option } from 'commander';

export interface FencedBlock {
  readonly language: string;
  readonly text: string;
  /** Line of the opening fence, from 1. */
  readonly line: number;
}

/** The fenced code blocks of a document, also those inside lists. */
export function fencedBlocks(markdown: string): FencedBlock[] {
  const blocks: FencedBlock[] = [];
  let open: { language: string; lines: string[]; line: number } | undefined;
  for (const [index, line] of markdown.split('\n').entries()) {
    const fence = /^\s*```(\w*)\s*$/.exec(line);
    if (fence === null) open?.lines.push(line.trim());
    else if (open === undefined) open = { language: fence[1] ?? '', lines: [], line: index + 1 };
    else {
      blocks.push({ ...open, text: open.lines.join('\n') });
      open = undefined;
    }
  }
  if (open !== undefined) throw new Error(`the code block of line ${open.line} is not closed`);
  return blocks;
}

/** The `latchkey` command lines of shell blocks, with continued lines joined. */
export function commandLines(markdown: string): string[] {
  return fencedBlocks(markdown)
    .filter(({ language }) => ['sh', 'console'].includes(language))
    .flatMap(({ text }) => text.replaceAll(/\\\n\s*/g, '').split('\n'))
    .map((line) => line.replace(/^\$ /, ''))
    .filter((line) => line.startsWith('latchkey '));
}

/** What stands between single backticks outside of code blocks. */
export function inlineCode(markdown: string): string[] {
  const prose = markdown.replaceAll(/^\s*```[\s\S]*?^\s*```\s*$/gm, '');
  return [...prose.matchAll(/`([^`]+)`/g)].map((match) => (match[1] ?? '').replaceAll(/\s+/g, ' '));
}

/**
 * Checks one command line.
 * @param partial true for a mention in prose, where arguments and required options may be left out
 * @returns what is wrong, or undefined
 */
export function commandLineFault(program: Command, line: string, partial = false): string | undefined {
  const words = shellWords(line).slice(1);
  const chain = [program];
  while (words[0] !== undefined && !words[0].startsWith('-')) {
    const next = chain.at(-1)?.commands.find((command) => command.name() === words[0]);
    if (next === undefined) break;
    chain.push(next);
    words.shift();
  }
  const command = chain.at(-1) ?? program;
  const parsed = splitWords(chain, words);
  if (typeof parsed === 'string') return parsed;
  if (command.commands.length > 0 && parsed.positionals.length > 0) {
    return `there is no command ${JSON.stringify(parsed.positionals[0])} in "${command.name()}"`;
  }
  const accepted = command.registeredArguments;
  if (parsed.positionals.length > accepted.length && accepted.at(-1)?.variadic !== true)
    return `too many arguments for "${command.name()}"`;
  if (partial) return undefined;
  if (command.commands.length > 0 && parsed.options.size === 0) return `"${command.name()}" needs a command`;
  if (parsed.positionals.length < accepted.filter(({ required }) => required).length) {
    return `"${command.name()}" lacks an argument`;
  }
  const missing = command.options.find((option) => option.mandatory && !parsed.options.has(option));
  return missing === undefined ? undefined : `"${command.name()}" lacks ${missing.long ?? ''}`;
}

/** True when some command has that option. */
export function hasOption(command: Command, name: string): boolean {
  return (
    name === '--help' ||
    command.options.some(({ long }) => long === name) ||
    command.commands.some((child) => hasOption(child, name))
  );
}

interface SplitWords {
  readonly positionals: string[];
  readonly options: Set<Option>;
}

function splitWords(chain: readonly Command[], words: readonly string[]): SplitWords | string {
  const known = chain.flatMap(({ options }) => options);
  const positionals: string[] = [];
  const options = new Set<Option>();
  for (let index = 0; index < words.length; index += 1) {
    const word = words[index] ?? '';
    if (word === '-' || !word.startsWith('-')) {
      positionals.push(word);
      continue;
    }
    if (['--help', '-h'].includes(word)) continue;
    const [name = '', given] = word.split(/=(.*)/s, 2);
    const option = known.find(({ long, short }) => long === name || short === name);
    if (option === undefined) return `there is no option ${name} in "${chain.at(-1)?.name() ?? ''}"`;
    options.add(option);
    if (!option.required) continue;
    const value = given ?? words[(index += 1)];
    if (value === undefined) return `${name} lacks its value`;
    if (option.argChoices?.includes(value) === false) return `${name} does not take ${value}`;
  }
  return { positionals, options };
}

/** Words as a shell splits them, up to a pipe, a redirection or a comment. */
function shellWords(line: string): string[] {
  const words: string[] = [];
  for (const [token] of line.matchAll(/(?:"[^"]*"|'[^']*'|[^\s"'])+/g)) {
    if (/^(?:[|>&;#]|2>)/.test(token)) break;
    words.push(token.replaceAll(/["']/g, ''));
  }
  return words;
}
