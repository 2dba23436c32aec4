/**
 * What `drop_at_shutdown` asks for: when the agent ends, plaintext goes that nobody stands on. The store itself, and with
 * it the key of an encrypted volume, goes when nothing is left in it.
 */
import { readdir } from 'node:fs/promises';
import type { PlaintextStore } from '../snapshotter/plaintext-store.ts';
import type { DropResult } from './plaintext-holder.ts';
import type { PlaintextDropper } from './plaintext.ts';

const SNAPSHOT_DIRECTORY = /^\d+$/;

/** To be called when starts are no longer answered. */
export async function dropAtShutdown(
  plaintext: PlaintextDropper,
  store: PlaintextStore,
): Promise<DropResult> {
  const result = await plaintext.dropUnmounted();
  // One that does not answer has nothing left to keep.
  const names = await readdir(store.directory).catch(() => []);
  const left = names.filter((name) => SNAPSHOT_DIRECTORY.test(name));
  if (left.length === 0) await store.close();
  return result;
}
