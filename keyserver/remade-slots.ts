/** The slots of a new root key: each opens it the way it opened the one before. */
import { LatchkeyError } from '#src/base/errors.ts';
import { readRootKeyFile } from './custody/root-key-file.ts';
import { type RootKeySlot, keyCheck, shareParameters } from './custody/root-key-slot.ts';
import type { RootKeyTokenUri } from './custody/root-key-token.ts';
import { type NewSharedSlot, createSharedSlot } from './custody/shared-slot.ts';
import { newFileSlot } from './domain/root-key-slots.ts';
import { makeTokenSlot, openByToken } from './made-token-slot.ts';

/** What is at hand for slots that are not shared among people. */
export interface SlotMeans {
  readonly rootKeyFile: string;
  readonly rootKeyToken: RootKeyTokenUri | null;
}

export interface RemadeSlots {
  readonly slots: readonly RootKeySlot[];
  readonly sharedSlots: readonly NewSharedSlot[];
}

/** @throws LatchkeyError CONFIG_INVALID without the root key file, STATE_PRECONDITION for a slot that cannot be made anew here, KEY_*, and what a token fails with */
export async function remakeSlots(
  slots: readonly RootKeySlot[],
  rootKey: Uint8Array,
  means: SlotMeans,
  nowMs: number,
): Promise<RemadeSlots> {
  const remade: RootKeySlot[] = [];
  const sharedSlots: NewSharedSlot[] = [];
  for (const before of slots) {
    const owner = { organizationId: before.organization_id, slotId: before.id, label: before.label, nowMs };
    if (before.kind === 'shamir') {
      const { threshold, shareDigests } = shareParameters(before);
      const made = await createSharedSlot(owner, rootKey, { shares: shareDigests.length, threshold });
      sharedSlots.push(made);
      remade.push(made.slot);
    } else if (before.kind === 'file') {
      const key = await readRootKeyFile(means.rootKeyFile);
      // Whatever else is in that file must not be lost.
      if (before.key_check !== keyCheck(key, before.organization_id, before.id)) {
        throw notHere(before, `${means.rootKeyFile} holds another root key`, '--root-key');
      }
      remade.push(newFileSlot(owner, rootKey));
    } else {
      const { rootKeyToken: token } = means;
      if (token === null) throw notHere(before, 'its token was not named', '--root-key-token');
      // The slot of another token would stay behind, and open nothing.
      await openByToken(before.organization_id, [before], token);
      remade.push(await makeTokenSlot(owner, rootKey, token));
    }
  }
  return { slots: remade, sharedSlots };
}

function notHere({ label, kind }: RootKeySlot, why: string, option: string): LatchkeyError {
  return new LatchkeyError('STATE_PRECONDITION', `the slot ${label} (${kind}) cannot be made anew: ${why}`, {
    hint: `name it with ${option}, or remove that slot with \`latchkey server remove-slot\``,
  });
}
