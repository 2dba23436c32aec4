/**
 * One agent for each state directory. Two would be one node: the key server would take the second for a copy of the first and
 * shut the node out, and each would go by a journal that the other changes behind its back.
 */
import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { LatchkeyError } from '#src/base/errors.ts';
import { sqliteFailure } from '#src/base/sqlite-failure.ts';

export interface StateLock {
  release(): void;
}

/**
 * Keeps a state directory for this process. The kernel frees it when the process ends, however it ends; Node has no lock
 * on files like that but SQLite's.
 * @param path of an empty file in it
 * @throws LatchkeyError STATE_CONFLICT when another agent has it, STORAGE_FAILED
 */
export function lockState(path: string): StateLock {
  try {
    const database = new DatabaseSync(path);
    // Nothing is ever written: no second file to go back by.
    database.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
    return {
      release: () => {
        database.close();
      },
    };
  } catch (error) {
    if (sqliteFailure(error) !== 'busy') {
      const reason = error instanceof Error ? error.message : String(error);
      throw new LatchkeyError('STORAGE_FAILED', `${path} cannot be locked (${reason})`, {
        hint: 'remove it, it holds nothing, and look whether the directory can be written',
        cause: error,
      });
    }
    throw new LatchkeyError('STATE_CONFLICT', `another agent is running on ${dirname(path)}`, {
      hint: 'stop it, or give this one its own state_directory and runtime_directory',
      cause: error,
    });
  }
}
