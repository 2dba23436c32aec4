import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { digestOf } from '#src/oci/digest.ts';
import { extractionChainId, parseKey } from '../../../shim/snapshotter/snapshot.ts';

const CHAIN_ID = digestOf('a chain');
const REFERENCE = 'containerd.io/snapshot.ref';

const namespace = fc.stringMatching(/^[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*$/);

describe('a backend key', () => {
  test('is taken apart, whatever the name holds', () => {
    fc.assert(
      fc.property(namespace, fc.nat(), fc.string({ minLength: 1 }), (space, number, name) => {
        expect(parseKey(`${space}/${number}/${name}`)).toEqual({ namespace: space, name });
      }),
    );
  });

  test('of another form is a name in no namespace', () => {
    for (const key of ['', 'name', 'a/b', 'a/b/c', 'a/1']) {
      expect(parseKey(key)).toEqual({ namespace: '', name: key });
    }
  });

  test('of any form is read without a failure', () => {
    fc.assert(
      fc.property(fc.string(), fc.dictionary(fc.string(), fc.string()), (key, labels) => {
        const { namespace: space, name } = parseKey(key);
        expect(key.endsWith(name)).toBe(true);
        if (space === '') expect([key, key.slice(key.indexOf('/', 1) + 1)]).toContain(name);
        extractionChainId(key, labels);
      }),
    );
  });
});

describe('the chain ID of an extraction', () => {
  test('is in the key (ctr of 1.6 and 1.7 sends no label)', () => {
    expect(extractionChainId(`k8s.io/12/extract-123456789-Ab_c ${CHAIN_ID}`, {})).toBe(CHAIN_ID);
  });

  test('is in the label (CRI, and ctr of 2.x)', () => {
    expect(extractionChainId('k8s.io/12/something', { [REFERENCE]: CHAIN_ID })).toBe(CHAIN_ID);
  });

  test('in the key counts more than in the label, which anybody can set', () => {
    const labels = { [REFERENCE]: digestOf('another chain') };
    expect(extractionChainId(`k8s.io/12/extract-1-a ${CHAIN_ID}`, labels)).toBe(CHAIN_ID);
  });

  test.each([
    'k8s.io/12/container',
    `k8s.io/12/${CHAIN_ID}`,
    `k8s.io/12/extract- ${CHAIN_ID}`,
    `k8s.io/12/extract-1-a ${CHAIN_ID.slice(0, -1)}`,
    `k8s.io/12/extract-1-a ${CHAIN_ID.toUpperCase()}`,
    `k8s.io/12/extract-1-a ${CHAIN_ID}\n`,
    `k8s.io/12/extract-1-a  ${CHAIN_ID} x`,
  ])('is not in %j', (key) => {
    expect(extractionChainId(key, {})).toBeNull();
    expect(extractionChainId(key, { [REFERENCE]: 'sha256:short' })).toBeNull();
  });
});
