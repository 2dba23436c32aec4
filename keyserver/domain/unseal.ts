/** Unsealing by whoever has what opens the keys, and sealing by whoever may. */
import { LatchkeyError } from '#src/base/errors.ts';
import type { SealInput, SealStatus, UnsealInput } from '#src/wire/admin/seal.ts';
import type { Actor } from '../audit/append-event.ts';
import { keyCustody } from '../custody/root-key-file.ts';
import { runChange } from './change.ts';
import type { KeyServer } from './key-server.ts';

export function sealStatus({ organizationId, seal }: KeyServer): SealStatus {
  return { organizationId, isSealed: seal.isSealed };
}

/**
 * Opens the keys with the root key. A key server that is unsealed stays so, whatever comes.
 * @throws LatchkeyError KEY_INVALID for another root key, and what else keeps the keys from being opened
 */
export async function unseal(server: KeyServer, { rootKey }: UnsealInput): Promise<SealStatus> {
  const custody = keyCustody(Buffer.from(rootKey, 'hex'));
  const wasSealed = await server.seal.unseal(custody).catch((error: unknown) => {
    throw error instanceof LatchkeyError && error.code === 'CONFIG_INVALID' ? wrongKey(error) : error;
  });
  if (wasSealed) {
    await runChange(server, 'system', (change) =>
      change.audit({ action: 'server.unseal', target: server.organizationId }),
    );
  }
  return sealStatus(server);
}

/**
 * Forgets the keys of this process. On a key server that is sealed, nothing.
 * @throws LatchkeyError STATE_PRECONDITION for the id of another organization
 */
export async function seal(server: KeyServer, actor: Actor, input: SealInput): Promise<SealStatus> {
  if (input.organizationId !== server.organizationId) {
    throw new LatchkeyError('STATE_PRECONDITION', 'this key server belongs to another organization', {
      hint: 'see `latchkey server status` for its id',
    });
  }
  const wasSealed = server.seal.isSealed;
  await server.seal.seal();
  if (!wasSealed) {
    await runChange(server, actor, (change) =>
      change.audit({
        action: 'server.seal',
        target: server.organizationId,
        detail: { reason: input.reason },
      }),
    );
  }
  return sealStatus(server);
}

function wrongKey(cause: LatchkeyError): LatchkeyError {
  return new LatchkeyError('KEY_INVALID', 'this root key does not open the database', {
    hint: 'use the root key that the database was made with',
    cause,
  });
}
