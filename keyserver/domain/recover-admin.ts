/** The way back in for whoever has the machine of the key server but no admin token that still works. */
import { RECOVERY_TOKEN_LIFETIME_MS } from '../limits.ts';
import { WHOLE_ORGANIZATION } from './access.ts';
import { insertToken, newToken } from './api-tokens.ts';
import { runChange } from './change.ts';
import type { KeyServer } from './key-server.ts';

/**
 * Makes an admin token that lives for a day, to make others with. It takes nothing from those that are there.
 * @param keep puts it where only the owner of the key server reads it; the token counts once that has worked
 * @throws what `keep` throws
 */
export function recoverAdmin(server: KeyServer, keep: (token: string) => Promise<void>): Promise<void> {
  const token = newToken();
  return runChange(server, 'system', async (change) => {
    const row = await insertToken(change.writer, {
      organizationId: change.organizationId,
      revision: await change.nextRevision(),
      nowMs: change.nowMs,
      name: 'recovered admin token',
      permissionSet: 'admin',
      token,
      expiresAtMs: change.nowMs + RECOVERY_TOKEN_LIFETIME_MS,
      access: WHOLE_ORGANIZATION,
    });
    await change.audit({
      action: 'token.recover',
      target: row.id,
      detail: { expiresAtMs: row.expires_at_ms },
    });
    await keep(token);
  });
}
