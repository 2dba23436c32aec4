/** The states of a node at the key server, and what an administrator may do in each. */
import { LatchkeyError } from '#src/base/errors.ts';

/**
 * BANNED: shut out until it is let in again. RETIRED: gone, its seat is free; it may enrol anew. RESTORED and CLONED: its
 * identity went back in time, or is in use twice; it keeps its seat.
 */
export const NODE_STATES = ['ACTIVE', 'BANNED', 'RETIRED', 'RESTORED', 'CLONED'] as const;
export type NodeState = (typeof NODE_STATES)[number];

/** States in which a node takes up a seat of its licenses. */
export const SEATED_STATES = ['ACTIVE', 'RESTORED', 'CLONED'] as const satisfies readonly NodeState[];

export const NODE_ACTIONS = ['ban', 'unban', 'retire', 'readmit'] as const;
export type NodeAction = (typeof NODE_ACTIONS)[number];

/** State -> action -> next state; a pair that is missing is refused. */
const TRANSITIONS: Record<NodeState, Partial<Record<NodeAction, NodeState>>> = {
  ACTIVE: { ban: 'BANNED', unban: 'ACTIVE', retire: 'RETIRED', readmit: 'ACTIVE' },
  // Not retired: then it could enrol anew, and the ban would be over.
  BANNED: { ban: 'BANNED', unban: 'ACTIVE' },
  RETIRED: { ban: 'BANNED', retire: 'RETIRED' },
  RESTORED: { ban: 'BANNED', retire: 'RETIRED', readmit: 'ACTIVE' },
  CLONED: { ban: 'BANNED', retire: 'RETIRED', readmit: 'ACTIVE' },
};

/**
 * Gives the state after an action; the same state when the action changes nothing.
 * @throws LatchkeyError STATE_PRECONDITION when the state does not allow the action
 */
export function nextNodeState(nodeId: string, state: NodeState, action: NodeAction): NodeState {
  const next = TRANSITIONS[state][action];
  if (next !== undefined) return next;
  throw new LatchkeyError(
    'STATE_PRECONDITION',
    `node ${nodeId} is ${state.toLowerCase()}; ${action} is not possible`,
    {
      hint: state === 'BANNED' ? 'unban it first' : 'it has to be activated again',
    },
  );
}
