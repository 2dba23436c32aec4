/** A configuration that is tried under another name than it will have. */
import { glob } from 'node:fs/promises';
import { dirname, matchesGlob, resolve } from 'node:path';
import { stringify } from 'smol-toml';
import { parseToml } from './toml-text.ts';

/**
 * The text to try: imports that find the file itself, as `*.toml` beside it does, would bring back what it says now.
 * containerd leaves a file out that it has read already, and under the other name it has not.
 * @param configPath the name that it will have
 * @throws LatchkeyError CONFIG_INVALID for what is no TOML
 */
export async function trialText(text: string, configPath: string): Promise<string> {
  const document = parseToml(text, configPath);
  const { imports } = document;
  if (!Array.isArray(imports)) return text;
  const without = await Promise.all(imports.map((pattern) => withoutItself(pattern, configPath)));
  if (without.every((files, index) => files[0] === imports[index])) return text;
  return stringify({ ...document, imports: without.flat() });
}

/** What an import names, one by one where the file itself is among it. */
async function withoutItself(pattern: unknown, configPath: string): Promise<unknown[]> {
  if (typeof pattern !== 'string') return [pattern];
  const absolute = resolve(dirname(configPath), pattern);
  if (!matchesGlob(configPath, absolute)) return [pattern];
  const files: string[] = [];
  for await (const file of glob(absolute)) if (file !== configPath) files.push(file);
  return files.sort();
}
