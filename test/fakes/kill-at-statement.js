/**
 * Loaded before a program of the key server (`--import`): SIGKILL as its statement of a number is to run; without one it
 * says at the end how many there were.
 */
import { DatabaseSync, StatementSync } from 'node:sqlite';
import pg from 'pg';

const killAt = Number(process.env.LATCHKEY_TEST_KILL_AT);
let count = 0;

function counted(method) {
  return function (...args) {
    count += 1;
    if (count === killAt) process.kill(process.pid, 'SIGKILL');
    return method.apply(this, args);
  };
}

for (const name of ['run', 'all']) StatementSync.prototype[name] = counted(StatementSync.prototype[name]);
DatabaseSync.prototype.exec = counted(DatabaseSync.prototype.exec);
pg.Client.prototype.query = counted(pg.Client.prototype.query);
process.on('exit', () => process.stderr.write(`statements: ${count}\n`));
