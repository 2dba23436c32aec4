import { beforeEach, describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { StartRecord } from '../../../shim/agent/start-record.ts';
import { type ManualClock, manualClock } from '../../fakes/manual-clock.ts';

const REVOKED = new LatchkeyError('DENIED_LICENSE_REVOKED', 'revoked', { licenseId: 'lic-1' });
const EXPIRED = new LatchkeyError('DENIED_LICENSE_EXPIRED', 'expired', { licenseId: 'lic-1' });

let clock: ManualClock;
let told: string[];
let record: StartRecord;

beforeEach(() => {
  clock = manualClock();
  told = [];
  record = new StartRecord(clock, {
    onAllowed: ({ namespace, key }) => told.push(`allowed ${namespace}/${key}`),
    onDenied: ({ error, key }, count) => told.push(`${error.code} ${key} ${count}`),
  });
});

function deny(key: string, error = REVOKED, image = 'sha256:1'): void {
  record.denied({ error, image, namespace: 'k8s.io', key });
}

describe('a start', () => {
  test('is told once, although containerd asks several times', () => {
    for (let call = 0; call < 3; call += 1) record.allowed('k8s.io', 'one');
    record.allowed('default', 'one');
    expect(told).toEqual(['allowed k8s.io/one', 'allowed default/one']);
  });

  test('of the same container later is another one', () => {
    record.allowed('k8s.io', 'one');
    clock.advance(10_000);
    record.allowed('k8s.io', 'one');
    expect(told).toHaveLength(2);
  });
});

describe('a denial', () => {
  test('that repeats with each new container is told once a minute, with how often', () => {
    for (let attempt = 0; attempt < 5; attempt += 1) deny(`container-${attempt}`);
    expect(told).toEqual(['DENIED_LICENSE_REVOKED container-0 1']);
    clock.advance(60_000);
    deny('container-5');
    expect(told.at(-1)).toBe('DENIED_LICENSE_REVOKED container-5 5');
  });

  test('for another reason or of another image is news', () => {
    deny('one');
    deny('one', EXPIRED);
    deny('one', REVOKED, 'sha256:2');
    expect(told).toHaveLength(3);
  });

  test('is kept, the newest first and each once, and not without bound', () => {
    for (let image = 0; image < 30; image += 1) deny('one', REVOKED, `sha256:${image}`);
    deny('two', REVOKED, 'sha256:20');
    expect(record.recent()).toHaveLength(20);
    expect(record.recent()[0]).toMatchObject({ image: 'sha256:20', key: 'two' });
    expect(record.recent().filter(({ image }) => image === 'sha256:20')).toHaveLength(1);
  });
});
