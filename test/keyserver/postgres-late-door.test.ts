/** A PostgreSQL that has so much to do that it lets nobody in for seconds. */
import { connect, createServer, type AddressInfo, type Server } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { DATABASE_CONNECT_TIMEOUT_MS } from '../../keyserver/limits.ts';
import { FORGETFUL, type TestPostgres, postgresSkipReason, startPostgres } from '../../lab/postgres.ts';
import { runLatchkey } from '../fakes/command-line.ts';
import { temporaryDirectory } from '../fakes/temporary-directory.ts';

const skipReason = postgresSkipReason();
const directory = temporaryDirectory();
let postgres: TestPostgres;
let door: Server;

beforeAll(async () => {
  if (skipReason !== null) return;
  postgres = await startPostgres({ settings: FORGETFUL });
  const port = Number(postgres.address.split(':')[1]);
  door = createServer((socket) => {
    socket.on('error', () => undefined);
    setTimeout(() => {
      const inside = connect(port, '127.0.0.1');
      inside.on('error', () => socket.destroy());
      socket.once('close', () => inside.destroy());
      socket.pipe(inside).pipe(socket);
    }, DATABASE_CONNECT_TIMEOUT_MS + 500);
  });
  await new Promise<void>((resolve) => door.listen(0, '127.0.0.1', resolve));
});

afterAll(async () => {
  if (skipReason !== null) return;
  door.close();
  await postgres.dispose();
});

it.skipIf(skipReason !== null)('is waited for by a program that runs once', async () => {
  const { port } = door.address() as AddressInfo;
  const database = postgres.url.replace(postgres.address, `127.0.0.1:${port}`);
  const doctor = ['server', 'doctor', '--data', directory(), '--database', database];
  const { stdout, stderr } = await runLatchkey(doctor, { directory: directory() });
  expect(stdout, stderr).toMatch(/^BAD +database-durable:/mu);
});
