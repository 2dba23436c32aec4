/**
 * How the key server tells that a node's identity went back in time (a restored snapshot) or is in use twice (a clone).
 * Pure.
 *
 * Each run of an agent opens a session with what the one before has left on the disk: the sequence and the token of the
 * last session. Only the newest token opens the next one, so two holders of one identity part ways at once. Inside a
 * session every request carries a counter that is used once. It is in memory only: a snapshot that brings the memory back
 * brings an old counter back with it. Requests may overtake each other inside a window.
 *
 * A single request that does not fit is no proof of anything, because networks delay and repeat; the node is asked to open
 * its session again, and judged by that, where nothing can be out of order.
 */

/** Requests of a node that may be under way at once; a node sends fewer. */
export const CHAIN_WINDOW = 32;

/** Where a node stands. */
export interface ChainPosition {
  readonly sequence: number;
  readonly token: string;
  readonly counter: number;
}

/** What the key server keeps of each node. */
export interface NodeSession {
  readonly sequence: number;
  readonly token: string;
  readonly previousToken: string;
  /** The request that opened it. */
  readonly openedBy: string;
  /** Fingerprints of the machine and of its boot. */
  readonly machine: string;
  readonly boot: string;
  /** The machine's time since that boot, suspended time included, when the session was opened. */
  readonly bootTimeMs: number;
  /** The highest counter seen, and which ones below it: bit n stands for `counter - n`. */
  readonly counter: number;
  readonly window: number;
}

export interface ChainMark {
  readonly counter: number;
  readonly window: number;
}

/**
 * Uses up the counter of a request.
 * @param session undefined for a node that never opened one
 * @param position undefined for a node that is too old to have one
 * @returns what to keep; 'unchanged' when there is nothing to keep; 'stale' when the node has to open its session again
 */
export function takeCounter(
  session: NodeSession | undefined,
  position: ChainPosition | undefined,
): ChainMark | 'unchanged' | 'stale' {
  if (session === undefined) return position === undefined ? 'unchanged' : 'stale';
  if (position?.token !== session.token) return 'stale';
  const ahead = position.counter - session.counter;
  if (ahead > 0) {
    const moved = ahead < CHAIN_WINDOW ? session.window << ahead : 0;
    return { counter: position.counter, window: (moved | 1) >>> 0 };
  }
  if (-ahead >= CHAIN_WINDOW || ((session.window >>> -ahead) & 1) === 1) return 'stale';
  return { counter: session.counter, window: (session.window | (1 << -ahead)) >>> 0 };
}

/** True when a request that changes nothing comes from the newest session, and from no earlier moment of it. */
export function isNewest(session: NodeSession | undefined, position: ChainPosition | undefined): boolean {
  if (session === undefined) return position === undefined;
  return position?.token === session.token && position.counter >= session.counter;
}

/** A node that opens a session. */
export interface ChainOpening extends ChainPosition {
  /** False when the agent has just started: then there is no counter yet. */
  readonly isRunning: boolean;
  /** The same when the node repeats a request whose answer it did not get. */
  readonly requestId: string;
  readonly machine: string;
  readonly boot: string;
  readonly bootTimeMs: number;
}

export type OpeningVerdict =
  /** A new session follows. */
  | 'open'
  /** The answer got lost: the session is open already. */
  | 'repeat'
  | 'restored'
  | 'cloned'
  /** The node has come further than this server knows: the server went back in time. */
  | 'server-rollback';

/** Judges an opening. */
export function judgeOpening(session: NodeSession | undefined, opening: ChainOpening): OpeningVerdict {
  if (session === undefined) return 'open';
  if (opening.sequence > session.sequence) return 'server-rollback';
  const isSameMachine = opening.machine === session.machine;
  const wentBack = opening.boot === session.boot && opening.bootTimeMs < session.bootTimeMs;
  if (opening.token === session.token) {
    const forgot = opening.isRunning && opening.counter < session.counter;
    if (!forgot && !wentBack) return 'open';
    return isSameMachine ? 'restored' : 'cloned';
  }
  if (opening.token === session.previousToken && opening.requestId === session.openedBy) return 'repeat';
  if (!isSameMachine) return 'cloned';
  // An agent that is alive beside the one that took its place, on a machine that did not go back: there are two.
  const isBeside = opening.isRunning && opening.boot === session.boot && !wentBack;
  return isBeside ? 'cloned' : 'restored';
}
