/** How many installations, nodes, and nodes at once a license allows. Pure. */
import type { DeniedCode } from '#src/base/errors.ts';

/** By how much each limit may be overdrawn; `always` = without an end, the use is only counted. */
export const OVERAGES = ['none', '1.25x', '1.5x', '2x', 'always'] as const;
export type Overage = (typeof OVERAGES)[number];

const FACTORS: Readonly<Record<Overage, number>> = {
  none: 1,
  '1.25x': 1.25,
  '1.5x': 1.5,
  '2x': 2,
  always: Infinity,
};

export interface SeatFacts {
  readonly maxNodes: number;
  readonly usedSeats: number;
  readonly heldByThisNode: boolean;
  /** Installations in use; undefined = not limited. */
  readonly installations?: SeatCount | undefined;
  /** Nodes with a lease; undefined = not limited. */
  readonly concurrent?: SeatCount | undefined;
  /** Undefined = none. */
  readonly overage?: Overage | undefined;
}

/** Seats of one kind, without overage; `held` = the asker has one of them already. */
export interface SeatCount {
  readonly max: number;
  readonly used: number;
  readonly held: boolean;
}

export interface SeatGap {
  readonly code: DeniedCode;
  /** Continues a sentence that begins with the license. */
  readonly reason: string;
}

/** Gives the first kind of seat that is used up; null = there is one of each. */
export function seatGap(seats: SeatFacts): SeatGap | null {
  const { installations, concurrent, overage = 'none' } = seats;
  const nodes = nodeSeats(seats);
  if (isUsedUp(installations, overage)) {
    return gap('DENIED_INSTALLATION_LIMIT', installations, overage, 'installation');
  }
  if (isUsedUp(nodes, overage)) return gap('DENIED_NODE_LIMIT', nodes, overage, 'node');
  if (isUsedUp(concurrent, overage)) {
    return gap('DENIED_CONCURRENCY_LIMIT', concurrent, overage, 'node', ' at once');
  }
  return null;
}

/** True when a seat that the asker takes now is beyond what was sold. */
export function isOverdrawn(seats: SeatFacts): boolean {
  return [seats.installations, nodeSeats(seats), seats.concurrent].some((count) => isUsedUp(count, 'none'));
}

/** What may be used of a limit; fractions of a seat do not count. */
export function seatLimit(max: number, overage: Overage): number {
  return Math.floor(max * FACTORS[overage]);
}

function nodeSeats({ maxNodes, usedSeats, heldByThisNode }: SeatFacts): SeatCount {
  return { max: maxNodes, used: usedSeats, held: heldByThisNode };
}

function isUsedUp(seats: SeatCount | undefined, overage: Overage): seats is SeatCount {
  return seats !== undefined && !seats.held && seats.used >= seatLimit(seats.max, overage);
}

function gap(code: DeniedCode, { max }: SeatCount, overage: Overage, what: string, when = ''): SeatGap {
  const limit = seatLimit(max, overage);
  const allowed = limit > max ? `${max} and, with overage, ${limit}` : String(max);
  return { code, reason: `is used up: it allows ${allowed} ${what}${limit === 1 ? '' : 's'}${when}` };
}
