import { describe, expect, test } from 'vitest';
import { type ErrorCode, LatchkeyError } from '#src/base/errors.ts';
import { digestOf } from '#src/oci/digest.ts';
import { AcquireLeaseResponse } from '#src/wire/generated/latchkey/node.ts';
import type { KeyServer } from '../../../shim/agent/key-server.ts';
import { LeaseRequests } from '../../../shim/agent/lease-requests.ts';
import type { LeaseSubject } from '../../../shim/agent/lease.ts';
import { LeaseIssuer } from '../../fakes/lease-issuer.ts';
import { manualClock } from '../../fakes/manual-clock.ts';

const IMAGE = { imageDigest: digestOf('an image'), imageKeyId: 'ik-1' };
const OTHER = { ...IMAGE, imageKeyId: 'ik-2' };

/** A key server that answers as the outcomes say, one after the other, and the nonces that it was asked with. */
function answering(...outcomes: (ErrorCode | 'OK')[]): { keyServer: KeyServer; nonces: string[] } {
  const nonces: string[] = [];
  const acquireLease: KeyServer['acquireLease'] = ({ nonce }) => {
    nonces.push(nonce.toString('hex'));
    const outcome = outcomes.shift() ?? 'OK';
    if (outcome === 'OK') return Promise.resolve(AcquireLeaseResponse.fromPartial({}));
    return Promise.reject(new LatchkeyError(outcome, 'as the test says'));
  };
  return { keyServer: { ...new LeaseIssuer(manualClock()).authority().keyServer, acquireLease }, nonces };
}

async function ask(keyServer: KeyServer, ...subjects: LeaseSubject[]): Promise<string[]> {
  const requests = new LeaseRequests(() => 1);
  const told: string[] = [];
  for (const subject of subjects) {
    told.push(
      await requests.ask(keyServer, subject).then(
        () => 'OK',
        (error: unknown) => (error as LatchkeyError).code,
      ),
    );
  }
  return told;
}

describe('requests for leases', () => {
  test('have a nonce of their own once they are answered', async () => {
    const { keyServer, nonces } = answering('OK', 'DENIED_LICENSE_SUSPENDED', 'RATE_LIMITED');
    await ask(keyServer, IMAGE, IMAGE, IMAGE, IMAGE);
    expect(new Set(nonces).size).toBe(4);
  });

  test.each(['NET_UNREACHABLE', 'NET_TIMEOUT', 'INTERRUPTED'] as const)(
    'are repeated after %s, for the same image only',
    async (away) => {
      const { keyServer, nonces } = answering(away, 'OK', away, 'OK', 'OK');
      expect(await ask(keyServer, IMAGE, OTHER, IMAGE, IMAGE, IMAGE)).toEqual([away, 'OK', away, 'OK', 'OK']);
      const [first, other, second, third, fourth] = nonces;
      expect([second, third]).toEqual([first, first]);
      expect(new Set([first, other, fourth]).size).toBe(3);
    },
  );

  test.each(['DENIED_REPLAY', 'DENIED_LICENSE_REVOKED'] as const)(
    'are made anew when a repeat gets %s',
    async (code) => {
      const { keyServer, nonces } = answering('NET_TIMEOUT', code, 'OK');
      expect(await ask(keyServer, IMAGE, IMAGE)).toEqual(['NET_TIMEOUT', 'OK']);
      expect(nonces[1]).toBe(nonces[0]);
      expect(nonces[2]).not.toBe(nonces[0]);
    },
  );

  test('tell what the new request gets', async () => {
    const { keyServer, nonces } = answering('NET_TIMEOUT', 'DENIED_REPLAY', 'DENIED_LICENSE_REVOKED');
    expect(await ask(keyServer, IMAGE, IMAGE)).toEqual(['NET_TIMEOUT', 'DENIED_LICENSE_REVOKED']);
    expect(nonces).toHaveLength(3);
  });
});
