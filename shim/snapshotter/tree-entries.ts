/** What is below a directory, for counting it. */
import { type Dir, type Stats, lstatSync, opendirSync } from 'node:fs';
import { join } from 'node:path';

/** All that is below a directory, looked up as it is asked for; what vanishes meanwhile is left out. */
export function* entriesBelow(root: string): Generator<Stats> {
  const left = [root];
  for (let path = left.pop(); path !== undefined; path = left.pop()) {
    for (const entry of entriesOf(path)) {
      const status = lstatSync(entry, { throwIfNoEntry: false });
      if (status === undefined) continue;
      if (status.isDirectory()) left.push(entry);
      yield status;
    }
  }
}

/** The paths of what is in a directory, as long as it can be read. */
function* entriesOf(path: string): Generator<string> {
  let directory: Dir;
  try {
    directory = opendirSync(path);
  } catch {
    return;
  }
  try {
    for (let entry = directory.readSync(); entry !== null; entry = directory.readSync()) {
      yield join(path, entry.name);
    }
  } finally {
    directory.closeSync();
  }
}
