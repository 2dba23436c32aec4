/** Everybody can reach the enrollment listener: each of its calls is limited by the address that it comes from. */
import { Client, Metadata, type MethodDefinition, credentials } from '@grpc/grpc-js';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { EnrollmentService } from '#src/wire/generated/latchkey/node.ts';
import { fromGrpcError } from '#src/wire/status.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';

const BURST = 5;

let server: TestKeyServer;
let client: Client;

beforeAll(async () => {
  server = await startKeyServer({ args: ['--rate-limit', `address=0.01/${BURST}`] });
  client = new Client(server.enrollAddress, credentials.createSsl(Buffer.from(server.authorityPem)));
});

afterAll(async () => {
  client.close();
  await server.dispose();
});

/** What the whole call is refused for, or `OK`. */
function call(definition: MethodDefinition<object, object>) {
  const { path, requestSerialize, responseDeserialize, requestDeserialize } = definition;
  return new Promise<{ code: string; message: string }>((resolve) => {
    client.makeUnaryRequest(
      path,
      requestSerialize,
      responseDeserialize,
      requestDeserialize(Buffer.alloc(0)),
      new Metadata(),
      (error) => {
        if (error === null) resolve({ code: 'OK', message: '' });
        else resolve(fromGrpcError(error, 'key server'));
      },
    );
  });
}

it.each([
  ['activate', 'activations'],
  ['challenge', 'challenges'],
  ['authenticate', 'authentications'],
] as const)('refuses a flood of %s, whatever the others had', async (method, flood) => {
  const definition = EnrollmentService[method] as MethodDefinition<object, object>;
  const answers = [];
  // The others have taken theirs before, all of it.
  for (let calls = 0; calls < BURST; calls += 1) answers.push(await call(definition));
  expect(answers.map(({ code }) => code)).not.toContain('RATE_LIMITED');
  await expect
    .poll(() => call(definition))
    .toMatchObject({
      code: 'RATE_LIMITED',
      message: `too many ${flood} from this address`,
    });
});

it('has a row for each call', () => {
  expect(Object.keys(EnrollmentService)).toEqual(['activate', 'challenge', 'authenticate']);
});
