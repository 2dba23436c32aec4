/**
 * Loaded before a program of the key server (`--import`): SIGKILL at a moment of a number; without one it says at the end how
 * many there were. A moment is before a statement and after it, or before and after a message to PostgreSQL.
 */
import { Socket } from 'node:net';
import { DatabaseSync, StatementSync } from 'node:sqlite';

const killAt = Number(process.env.LATCHKEY_TEST_KILL_AT);
let count = 0;

function moment() {
  count += 1;
  if (count === killAt) process.kill(process.pid, 'SIGKILL');
}

function counted(method, counts = () => true) {
  return function (...args) {
    if (!counts(this)) return method.apply(this, args);
    moment();
    const result = method.apply(this, args);
    moment();
    return result;
  };
}

for (const name of ['run', 'all']) StatementSync.prototype[name] = counted(StatementSync.prototype[name]);
DatabaseSync.prototype.exec = counted(DatabaseSync.prototype.exec);
// Of `pg` there may be a copy in the program; below it all write here. Standard output is a socket too, but of no port.
Socket.prototype.write = counted(Socket.prototype.write, ({ remotePort }) => remotePort !== undefined);
process.on('exit', () => process.stderr.write(`moments: ${count}\n`));
