/** How many installations, nodes and leases at once a license allows. Pure. */
import type { DeniedCode } from '#src/base/errors.ts';

export interface SeatFacts {
  readonly maxNodes: number;
  readonly usedSeats: number;
  readonly heldByThisNode: boolean;
  /** Installations in use; undefined = not limited. */
  readonly installations?: SeatCount;
  /** Leases in use at once; undefined = not limited. */
  readonly concurrent?: SeatCount;
}

/** Seats of one kind, overage included; `held` = the asker has one of them already. */
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
  const { maxNodes, usedSeats, heldByThisNode, installations, concurrent } = seats;
  const nodes = { max: maxNodes, used: usedSeats, held: heldByThisNode };
  if (isUsedUp(installations)) return gap('DENIED_INSTALLATION_LIMIT', installations, 'installation');
  if (isUsedUp(nodes)) return gap('DENIED_NODE_LIMIT', nodes, 'node');
  if (isUsedUp(concurrent)) return gap('DENIED_CONCURRENCY_LIMIT', concurrent, 'lease');
  return null;
}

function isUsedUp(seats: SeatCount | undefined): seats is SeatCount {
  return seats !== undefined && !seats.held && seats.used >= seats.max;
}

function gap(code: DeniedCode, { max }: SeatCount, what: string): SeatGap {
  return { code, reason: `is used up: it allows ${max} ${what}${max === 1 ? '' : 's'}` };
}
