/** What webhooks can be asked for is what happens, and the auditor's guide names it all. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { AUDIT_ACTIONS, isEventKind } from '#src/licensing/audit-actions.ts';

test.each(['license.revoke', 'lease.acquire.denied', 'license.*', 'lease.acquire.*', '*'])(
  '%s happens',
  (kind) => {
    expect(isEventKind(kind)).toBe(true);
  },
);

test.each(['license.revoked', 'licence.*', 'license', 'nope', 'nope.*', '', '.*', 'license.revoke.allowed'])(
  '%s never does',
  (kind) => {
    expect(isEventKind(kind)).toBe(false);
  },
);

test.each(AUDIT_ACTIONS)('the auditor’s guide says what %s is', (action) => {
  const guide = readFileSync(join(import.meta.dirname, '..', '..', 'docs', 'auditor-guide.md'), 'utf8');
  expect(guide).toContain(`\`${action}\``);
});
