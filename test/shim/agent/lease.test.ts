import { createHmac, generateKeyPairSync } from 'node:crypto';
import { CompactSign } from 'jose';
import fc from 'fast-check';
import { beforeEach, describe, expect, test } from 'vitest';
import { digestOf } from '#src/oci/digest.ts';
import { tokensOf } from '#src/crypto/open-token.ts';
import { LEASE_TOKEN_TYPE, parseLeaseClaims } from '#src/licensing/lease-claims.ts';
import { leaseTimeMs, leaseVerificationKey, subjectKey, verifyLease } from '../../../shim/agent/lease.ts';
import { LeaseIssuer, NODE_ID } from '../../fakes/lease-issuer.ts';
import { manualClock } from '../../fakes/manual-clock.ts';

const subject = { imageDigest: digestOf('an image'), imageKeyId: 'key-1' };
const invalid = expect.objectContaining({ code: 'DENIED_LEASE_INVALID' }) as unknown;

let issuer: LeaseIssuer;
beforeEach(() => {
  issuer = new LeaseIssuer(manualClock());
});

function verify(token: string, expected: Parameters<typeof verifyLease>[2] = { nodeId: NODE_ID, subject }) {
  return verifyLease(token, leaseVerificationKey(issuer.verificationJwk), expected);
}

describe('a lease', () => {
  test('that is ours says what was signed', async () => {
    const claims = issuer.claims(subject);
    expect(await verify(await issuer.sign(claims))).toEqual(claims);
    expect(await verify(await issuer.sign(claims), { nodeId: NODE_ID })).toEqual(claims);
  });

  test.each([
    ['for another node', { nodeId: 'node-2' }],
    ['for another image', { imageDigest: digestOf('another image') }],
    ['for another image key', { imageKeyId: 'key-2' }],
    ['with a field we do not know', { onlyOnWeekdays: true }],
    ['with a field we do not know beside one that may be ignored', { ignorable: ['a'], a: 1, b: 1 }],
    [
      'with a field we do not know in one that we do',
      { ignorable: ['grace', 'x'], grace: { fromMs: 1, untilMs: 2, x: 3 } },
    ],
    ['that lets a field that we know be ignored, which is wrong', { ignorable: ['epoch'], epoch: 'new' }],
    ['that says in another way what may be ignored', { ignorable: 'color', color: 'red' }],
    ['with a field that every object has', { ignorable: ['x'], toString: 1 }],
    ['without a number where one belongs', { expiresAtMs: 'never' }],
    ['with a time before time', { expiresAtMs: -1 }],
    ['with another way to end', { onRevoke: 'ignore' }],
  ])('%s is refused', async (_case, change) => {
    const token = await issuer.sign({ ...issuer.claims(subject), ...change });
    await expect(verify(token)).rejects.toEqual(invalid);
  });

  test('of a newer key server says what we know, if the rest may be ignored', async () => {
    const claims = issuer.claims(subject);
    const newer = { color: 'red', size: { of: 'it' } };
    const token = await issuer.sign({ ...claims, ...newer, ignorable: ['size', 'color', 'weight'] });
    expect(await verify(token)).toEqual({ ...claims, ignorable: ['size', 'color', 'weight'] });
  });

  test('of a newer key server that restricts more than we know says what to do', async () => {
    const token = await issuer.sign({
      ...issuer.claims(subject),
      onlyOnWeekdays: true,
      color: 'red',
      ignorable: ['color'],
    });
    await expect(verify(token)).rejects.toMatchObject({
      code: 'DENIED_LEASE_INVALID',
      message: `the key server's lease is not valid: it may not be used without knowing "onlyOnWeekdays"`,
      hint: 'the key server is newer than this node: install a newer latchkey on it',
    });
  });

  test('is read with any further fields exactly when all of them may be ignored (property)', () => {
    const names = fc.uniqueArray(fc.string().map((name) => `x${name}`));
    fc.assert(
      fc.property(names, names, (further, ignorable) => {
        const claims = issuer.claims(subject);
        const read = () =>
          parseLeaseClaims({
            ...claims,
            ignorable,
            ...Object.fromEntries(further.map((name) => [name, true])),
          });
        if (further.every((name) => ignorable.includes(name)))
          expect(read()).toEqual({ ...claims, ignorable });
        else expect(read).toThrow(expect.objectContaining({ code: 'DENIED_LEASE_INVALID' }) as Error);
      }),
    );
  });

  test('that shares a signature with others says what was signed, and is refused where it is not ours', async () => {
    const others = [subject, { ...subject, imageKeyId: 'key-2' }].map((one) => issuer.claims(one));
    const [own, other] = tokensOf(issuer.signTogether(others));
    expect(await verify(own!)).toEqual(others[0]);
    await expect(verify(other!)).rejects.toEqual(invalid);
    expect(await verify(other!, { nodeId: NODE_ID })).toEqual(others[1]);
    await expect(verify(own!, { nodeId: 'node-2' })).rejects.toEqual(invalid);
    await expect(verify(own!.slice(0, own!.indexOf('~')))).rejects.toEqual(invalid);
  });

  test('without one of its fields is refused', async () => {
    const claims = issuer.claims(subject);
    for (const name of Object.keys(claims)) {
      const token = await issuer.sign({ ...claims, [name]: undefined });
      await expect(verify(token), name).rejects.toEqual(invalid);
    }
  });

  test.each(['JWT', undefined, 'lease', 'LEASE+JWT'])('of type %s is refused', async (typ) => {
    const token = await issuer.sign(issuer.claims(subject), { typ });
    await expect(verify(token)).rejects.toEqual(invalid);
  });

  test('signed by another key is refused', async () => {
    const other = new LeaseIssuer(manualClock());
    await expect(verify(await other.sign(other.claims(subject)))).rejects.toEqual(invalid);
  });

  test('without a signature, or with one that anybody can make, is refused', async () => {
    const payload = Buffer.from(JSON.stringify(issuer.claims(subject))).toString('base64url');
    const head = (alg: string) =>
      Buffer.from(JSON.stringify({ alg, typ: LEASE_TOKEN_TYPE })).toString('base64url');
    await expect(verify(`${head('none')}.${payload}.`)).rejects.toEqual(invalid);
    const signed = `${head('HS256')}.${payload}`;
    const mac = createHmac('sha256', issuer.verificationJwk).update(signed).digest('base64url');
    await expect(verify(`${signed}.${mac}`)).rejects.toEqual(invalid);
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const ecdsa = await new CompactSign(Buffer.from(JSON.stringify(issuer.claims(subject))))
      .setProtectedHeader({ alg: 'ES256', typ: LEASE_TOKEN_TYPE })
      .sign(privateKey);
    await expect(verify(ecdsa)).rejects.toEqual(invalid);
  });

  test('with two readings is refused', async () => {
    const json = JSON.stringify(issuer.claims(subject)).replace('{', '{"nodeId":"node-2",');
    const { privateKey, publicKey } = generateKeyPairSync('ed25519');
    const token = await new CompactSign(Buffer.from(json))
      .setProtectedHeader({ alg: 'EdDSA', typ: LEASE_TOKEN_TYPE })
      .sign(privateKey);
    await expect(verifyLease(token, publicKey, { nodeId: NODE_ID, subject })).rejects.toEqual(invalid);
  });

  test('with any character changed is refused', async () => {
    const token = await issuer.sign(issuer.claims(subject));
    await fc.assert(
      fc.asyncProperty(
        fc.nat(token.length - 2),
        fc.constantFrom('A', 'z', '_', '.', '='),
        async (at, other) => {
          fc.pre(token[at] !== other);
          const changed = `${token.slice(0, at)}${other}${token.slice(at + 1)}`;
          await expect(verify(changed)).rejects.toEqual(invalid);
        },
      ),
      { numRuns: 60 },
    );
  });

  test('that is any text is refused, and nothing else happens', async () => {
    await fc.assert(
      fc.asyncProperty(fc.string(), async (text) => {
        await expect(verify(text)).rejects.toEqual(invalid);
      }),
      { numRuns: 60 },
    );
  });
});

describe('the time of a lease', () => {
  test('goes on with the steady clock when the wall clock is turned back', () => {
    const clock = manualClock();
    const anchor = { serverTimeMs: clock.wallMs, monotonicMs: clock.steadyMs };
    clock.steadyMs += 10_000;
    clock.wallMs -= 3_600_000;
    expect(leaseTimeMs(anchor, clock)).toBe(anchor.serverTimeMs + 10_000);
  });

  test('never goes back, whatever the clocks do', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.integer(), fc.nat()), { maxLength: 20 }), (steps) => {
        const clock = manualClock();
        const anchor = { serverTimeMs: clock.wallMs, monotonicMs: clock.steadyMs };
        for (const [wallStepMs, steadyStepMs] of steps) {
          clock.wallMs += wallStepMs;
          clock.steadyMs += steadyStepMs;
          const elapsedMs = clock.steadyMs - anchor.monotonicMs;
          expect(leaseTimeMs(anchor, clock)).toBeGreaterThanOrEqual(anchor.serverTimeMs + elapsedMs);
        }
      }),
    );
  });
});

test('subjects are told apart', () => {
  expect(subjectKey(subject)).toBe(subjectKey({ ...subject }));
  expect(subjectKey(subject)).not.toBe(subjectKey({ ...subject, imageKeyId: 'key-2' }));
  expect(subjectKey(subject)).not.toBe(subjectKey({ ...subject, imageDigest: digestOf('another') }));
});

test.each(['', '{}', '{"kty":"OKP"}', 'null', '{"kty":"OKP","kty":"OKP"}'])(
  'a verification key %j is refused',
  (jwk) => {
    expect(() => leaseVerificationKey(jwk)).toThrow();
  },
);
