import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { Worker } from 'node:worker_threads';
import { compactVerify } from 'jose';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { startWorker } from '#src/base/installation.ts';
import { openEnvelope } from '#src/crypto/envelope.ts';
import { openToken, tokensOf } from '#src/crypto/open-token.ts';
import { ReleaseThread } from '../../keyserver/custody/release-thread.ts';

const PURPOSE = 'latchkey-image-key-lease';
const signer = generateKeyPairSync('ed25519');

let workers: Worker[];
let thread: ReleaseThread;

beforeEach(() => {
  workers = [];
  thread = new ReleaseThread((options) => {
    const worker = startWorker('keyserver/custody/release-worker.ts', options);
    workers.push(worker);
    return worker;
  });
});

afterEach(() => thread.close());

function newNode() {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { jwk: JSON.stringify(publicKey.export({ format: 'jwk' })), privateKey };
}

describe('the release thread', () => {
  it('gives each what it has asked for, over many messages and several jobs in one', async () => {
    const nodes = [newNode(), newNode(), newNode()];
    const rounds = Array.from({ length: 4 }, async (_, round) => {
      for (let wait = 0; wait < round; wait += 1) await new Promise((resolve) => setImmediate(resolve));
      for (const [index, { jwk, privateKey }] of nodes.entries()) {
        const key = randomBytes(32);
        const name = `lease_${round}_${index}`;
        const [token, sealed] = await Promise.all([
          thread.sign('lease+jwt', { name }, signer.privateKey),
          thread.seal(jwk, key, PURPOSE),
        ]);
        const { payload } = await compactVerify(token, signer.publicKey);
        expect(JSON.parse(Buffer.from(payload).toString())).toEqual({ name });
        expect(Buffer.from(await openEnvelope(sealed, privateKey, PURPOSE))).toEqual(key);
      }
    });
    await Promise.all(rounds);
    expect(workers).toHaveLength(1);
  });

  it('signs many at once', async () => {
    const signed = await thread.signTogether(
      'lease-list+jwt',
      [{ name: 'a' }, { name: 'b' }],
      signer.privateKey,
    );
    const types = { type: 'lease+jwt', listType: 'lease-list+jwt' };
    const opened = tokensOf(signed).map((token) => openToken(token, signer.publicKey, types));
    const payloads = (await Promise.all(opened)).map((payload) => Buffer.from(payload).toString());
    expect(payloads).toEqual(['{"name":"a"}', '{"name":"b"}']);
  });

  it('refuses what is no key on P-256, and does the rest of the message', async () => {
    const { jwk, privateKey } = newNode();
    const other = generateKeyPairSync('ec', { namedCurve: 'P-384' }).publicKey.export({ format: 'jwk' });
    const key = randomBytes(32);
    const answers = await Promise.allSettled([
      thread.seal('not JSON', key, PURPOSE),
      thread.seal(jwk, key, PURPOSE),
      thread.seal(JSON.stringify(other), key, PURPOSE),
    ]);
    expect(answers.map(({ status }) => status)).toEqual(['rejected', 'fulfilled', 'rejected']);
    const sealed = answers[1].status === 'fulfilled' ? answers[1].value : '';
    expect(Buffer.from(await openEnvelope(sealed, privateKey, PURPOSE))).toEqual(key);
  });

  it('rejects what a thread that ends has not answered, and goes on with the next', async () => {
    const first = workers[0];
    if (first === undefined) throw new Error('no thread was started');
    await once(first, 'online');
    const lost = thread.sign('lease+jwt', {}, signer.privateKey);
    const refused = expect(lost).rejects.toMatchObject({ code: 'BUG_UNEXPECTED' });
    // The message is posted after this turn's promises; the thread does not live to read it.
    void first.terminate();
    await refused;
    await thread.sign('lease+jwt', {}, signer.privateKey);
    expect(workers).toHaveLength(2);
  });
});
