/** A key server in the process of the test, where its work can be counted and what no option changes be given. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { VERSION } from '#src/base/installation.ts';
import { type ServeOptions, parseArguments } from '../../keyserver/arguments.ts';
import { createLogger } from '../../keyserver/logging.ts';
import { startKeyServer } from '../../keyserver/start.ts';
import type { TestKeyServer } from '../../lab/keyserver.ts';
import { removeServerDatabase, serverDatabaseUrl } from '../../lab/server-database.ts';

const LISTEN = ['admin-listen', 'node-listen', 'enroll-listen'].flatMap((name) => [
  `--${name}`,
  '127.0.0.1:0',
]);

/** @param more in place of what the arguments say */
export async function startInProcess(
  args: readonly string[],
  more: Partial<ServeOptions> = {},
): Promise<TestKeyServer> {
  const directory = await mkdtemp(join(tmpdir(), 'latchkey-in-process-'));
  const database = await serverDatabaseUrl(directory);
  const options = { ...parseArguments(['--data', directory, ...LISTEN, ...args]), database, ...more };
  const running = await startKeyServer(options, VERSION, createLogger('silent'));
  const read = (name: string) => readFile(join(directory, name), 'utf8');
  const stop = async () => {
    await running.stop();
    return 0;
  };
  return {
    ...{ ...running, pid: process.pid, dataDirectory: directory, log: () => '', printed: () => '', stop },
    authorityPem: await read('authority.pem'),
    adminToken: (await read('admin.token')).trim(),
    ended: () => Promise.reject(new Error('it ends with the test')),
    kill: () => Promise.reject(new Error('that would end the test')),
    dispose: async () => {
      await stop();
      await removeServerDatabase(directory);
      await rm(directory, { recursive: true, force: true });
    },
  };
}
