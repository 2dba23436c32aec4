import { expect, test } from 'vitest';
import { certificateRenewAtMs } from '#src/licensing/certificate-rules.ts';

test.each([
  [0, 60],
  [0.5, 200 / 3],
  [1, 220 / 3],
])(
  'a certificate is renewed after two thirds of its life, a tenth earlier or later (%s)',
  (random, percent) => {
    const renewAtMs = certificateRenewAtMs({ issuedAtMs: 1000, expiresAtMs: 1000 + 100_000, random });
    expect(renewAtMs - 1000).toBeCloseTo(percent * 1000, -1);
  },
);
