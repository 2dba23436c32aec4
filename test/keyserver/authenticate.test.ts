import { sign } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CHALLENGE_LIFETIME_MS, MAX_SERVER_CLOCK_SKEW_MS } from '../../keyserver/limits.ts';
import { nodeProofStatement } from '#src/licensing/node-proof.ts';
import { Challenges } from '../../keyserver/domain/challenges.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { authenticateAt, challengeAt } from '../../shim/agent/key-server.ts';
import { LicensedNode, type NodeKey, activateNode, createNodeKey } from '../fakes/licensed-node.ts';
import { manualClock } from '../fakes/manual-clock.ts';
import { type SoldProduct, auditLog, createSoldProduct } from '../fakes/sold-product.ts';

const DAY_MS = 86_400_000;

const LOOKUP_KEY = new Uint8Array(32).fill(7);

describe('a challenge', () => {
  it('is taken by every key server of the organization, and by no other', () => {
    const clock = manualClock();
    const nonce = new Challenges(() => LOOKUP_KEY, clock).issue();
    expect(new Challenges(() => LOOKUP_KEY, clock).isOpen(nonce)).toBe(true);
    expect(new Challenges(() => new Uint8Array(32), clock).isOpen(nonce)).toBe(false);
  });

  it('is good for a minute, by clocks that differ a little', () => {
    const clock = manualClock();
    const challenges = new Challenges(() => LOOKUP_KEY, clock);
    const nonce = challenges.issue();
    clock.advance(-MAX_SERVER_CLOCK_SKEW_MS);
    expect(challenges.isOpen(nonce)).toBe(true);
    clock.advance(-1);
    expect(challenges.isOpen(nonce)).toBe(false);
    clock.advance(CHALLENGE_LIFETIME_MS + 2 * MAX_SERVER_CLOCK_SKEW_MS);
    expect(challenges.isOpen(nonce)).toBe(true);
    clock.advance(1);
    expect(challenges.isOpen(nonce)).toBe(false);
  });

  it('is none with any bit changed, nor with bytes more or less', () => {
    const challenges = new Challenges(() => LOOKUP_KEY, manualClock());
    const nonce = challenges.issue();
    for (let bit = 0; bit < nonce.length * 8; bit += 1) {
      const changed = Buffer.from(nonce);
      changed[bit >> 3]! ^= 1 << (bit & 7);
      expect(challenges.isOpen(changed)).toBe(false);
    }
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        expect(challenges.isOpen(bytes)).toBe(false);
      }),
    );
  });
});

describe('authenticating with the node key', () => {
  let server: TestKeyServer;
  let sold: SoldProduct;
  const nodes: LicensedNode[] = [];

  beforeAll(async () => {
    server = await startKeyServer();
    sold = await createSoldProduct(server);
  });
  afterAll(async () => {
    for (const node of nodes) node.close();
    await server.dispose();
  });

  async function newNode(): Promise<LicensedNode> {
    const node = await activateNode(server, (await sold.sell()).licenseKey);
    nodes.push(node);
    return node;
  }

  const challenge = () => challengeAt(server.enrollAddress, server.authorityPem);

  interface Proof {
    readonly nodeId: string;
    readonly signer: NodeKey;
    readonly tlsKey: NodeKey;
    readonly nonce: Buffer;
    /** The request that is sent; default = the one that is signed. */
    readonly sent?: NodeKey;
  }

  function authenticate({ nodeId, signer, tlsKey, nonce, sent = tlsKey }: Proof) {
    const statement = nodeProofStatement({ nodeId, certificateRequest: tlsKey.requestDer, nonce });
    const key = { key: signer.privateKey, dsaEncoding: 'ieee-p1363' } as const;
    return authenticateAt(server.enrollAddress, server.authorityPem, {
      ...{ nodeId, nonce, certificateRequestDer: sent.requestDer },
      signature: sign('sha256', statement, key),
    });
  }

  async function proofOf(node: LicensedNode): Promise<Proof> {
    const { nodeId } = node.activation;
    return { nodeId, signer: node.key, tlsKey: await createNodeKey(), nonce: await challenge() };
  }

  it('gives a certificate for a TLS key, with which the image key still comes sealed to the node key', async () => {
    const node = await newNode();
    const proof = await proofOf(node);
    const answer = await authenticate(proof);
    expect(answer.certificateExpiresAtMs).toBeLessThanOrEqual(Date.now() + DAY_MS);
    expect(answer.certificateRenewAtMs).toBeLessThan(answer.certificateExpiresAtMs);
    const { certificateDer } = answer;
    const session = new LicensedNode(server, proof.tlsKey, { ...node.activation, certificateDer });
    nodes.push(session);
    const lease = await session.acquire(sold.image);
    await expect(session.openImageKey(lease)).rejects.toMatchObject({ code: 'CRYPTO_AUTHENTICATION_FAILED' });
    expect(Buffer.from(await node.openImageKey(lease))).toEqual(Buffer.from(sold.image.imageKey));
    const events = (await auditLog(sold.client)).filter(({ target }) => target === proof.nodeId);
    expect(events.at(-1)).toMatchObject({
      action: 'node.authenticate',
      actor: `node:${proof.nodeId}`,
      outcome: 'allowed',
    });
  });

  it('takes each challenge once, and none of somebody else', async () => {
    const proof = await proofOf(await newNode());
    await authenticate(proof);
    await expect(authenticate(proof)).rejects.toMatchObject({ code: 'STATE_CONFLICT' });
    await expect(authenticate({ ...proof, nonce: Buffer.alloc(32, 1) })).rejects.toMatchObject({
      code: 'STATE_CONFLICT',
    });
  });

  it('takes a challenge once when two come with it at the same time', async () => {
    const proof = await proofOf(await newNode());
    const answers = await Promise.allSettled([authenticate(proof), authenticate(proof)]);
    expect(answers.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
  });

  it('answers an unknown node like a wrong signature, and notes both', async () => {
    const [node, other] = [await newNode(), await newNode()];
    const [own, foreign, exchanged] = [await proofOf(node), await proofOf(node), await proofOf(node)];
    const refusals = [
      await refused(authenticate({ ...own, nodeId: 'node_nobody' })),
      await refused(authenticate({ ...foreign, signer: other.key })),
      await refused(authenticate({ ...exchanged, sent: await createNodeKey() })),
    ];
    expect(refusals[0]).toContain('the key server does not know this node');
    expect(new Set(refusals).size).toBe(1);
    const events = (await auditLog(sold.client)).slice(-3);
    for (const [index, target] of ['node_nobody', own.nodeId, own.nodeId].entries()) {
      expect(events[index]).toMatchObject({
        ...{ action: 'node.authenticate', actor: 'enrollment', target },
        ...{ outcome: 'denied', code: 'DENIED_NODE_UNKNOWN' },
      });
    }
  });

  it('refuses a banned node, also on a certificate that it has got before', async () => {
    const node = await newNode();
    const proof = await proofOf(node);
    const { certificateDer } = await authenticate(proof);
    const session = new LicensedNode(server, proof.tlsKey, { ...node.activation, certificateDer });
    nodes.push(session);
    await sold.client.changeNode(proof.nodeId, 'ban');
    await expect(authenticate(await proofOf(node))).rejects.toMatchObject({ code: 'DENIED_NODE_BANNED' });
    await expect(session.acquire(sold.image)).rejects.toMatchObject({ code: 'DENIED_NODE_BANNED' });
  });

  it('refuses what is malformed', async () => {
    const proof = await proofOf(await newNode());
    const send = (change: Partial<{ nodeId: string; signature: Buffer; certificateRequestDer: Buffer }>) =>
      authenticateAt(server.enrollAddress, server.authorityPem, {
        ...{ nodeId: proof.nodeId, nonce: proof.nonce, certificateRequestDer: proof.tlsKey.requestDer },
        signature: Buffer.alloc(64),
        ...change,
      });
    const malformed = { code: 'INPUT_MALFORMED' };
    await expect(send({ nodeId: 'node\n1' })).rejects.toMatchObject(malformed);
    await expect(send({ nodeId: 'n'.repeat(65) })).rejects.toMatchObject(malformed);
    await expect(send({ signature: Buffer.alloc(63) })).rejects.toMatchObject(malformed);
    await expect(send({ certificateRequestDer: Buffer.from('no DER') })).rejects.toMatchObject(malformed);
  });
});

async function refused(call: Promise<unknown>): Promise<string> {
  return call.then(
    () => 'allowed',
    (error: unknown) => String(error),
  );
}
