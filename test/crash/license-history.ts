/**
 * Is a recorded history of one license linearizable? Changes write the license's state, grants and denials read it; each
 * must seem to happen at one moment between its question and its answer (Herlihy and Wing 1990; the search is that of
 * Wing and Gong 1993, with states that were seen left out, Lowe 2017). Pure.
 */

export type HeldState = 'ACTIVE' | 'SUSPENDED' | 'REVOKED';

export interface LicenseOperation {
  /** An observation is a start or a renewal: granted = ACTIVE, denied = what the denial says. */
  readonly kind: 'change' | 'observation';
  /** What was written or seen. */
  readonly state: HeldState;
  /** Moments of one clock, on which no two are the same. */
  readonly askedAt: number;
  /** Null when no answer came: a change may have happened, then or later, or not. */
  readonly answeredAt: number | null;
}

/** The state at which a search went furthest without explaining the rest; null = the history is linearizable. */
export type Contradiction = { readonly state: HeldState; readonly unexplained: LicenseOperation } | null;

/** Looks for an order that explains a history which begins ACTIVE. REVOKED is final. */
export function findContradiction(history: readonly LicenseOperation[]): Contradiction {
  const search = new Search();
  const told = history.filter(({ kind, answeredAt }) => kind === 'change' || answeredAt !== null);
  return search.explains('ACTIVE', told) ? null : search.furthest;
}

/** Grants that were asked for after a revocation had been acknowledged. */
export function grantsAfterRevocation(history: readonly LicenseOperation[]): LicenseOperation[] {
  const revokedAt = Math.min(
    ...history
      .filter(({ kind, state }) => kind === 'change' && state === 'REVOKED')
      .map(({ answeredAt }) => answeredAt ?? Infinity),
  );
  return history.filter(
    ({ kind, state, askedAt, answeredAt }) =>
      kind === 'observation' && state === 'ACTIVE' && answeredAt !== null && askedAt > revokedAt,
  );
}

class Search {
  furthest: Contradiction = null;
  #fewestLeft = Infinity;
  readonly #seen = new Set<string>();

  explains(state: HeldState, operations: readonly LicenseOperation[]): boolean {
    const rest = withoutReads(state, operations);
    const unexplained = rest.find(({ answeredAt }) => answeredAt !== null);
    if (unexplained === undefined) return true;
    const name = `${state} ${rest.map(({ askedAt }) => askedAt).join(' ')}`;
    if (this.#seen.has(name)) return false;
    this.#seen.add(name);
    if (rest.length < this.#fewestLeft) {
      this.#fewestLeft = rest.length;
      this.furthest = { state, unexplained };
    }
    return rest
      .filter((change) => change.kind === 'change' && canBeNext(change, rest))
      .filter((change) => state !== 'REVOKED' || change.state === 'REVOKED')
      .some((change) =>
        this.explains(
          change.state,
          rest.filter((other) => other !== change),
        ),
      );
  }
}

/** Reads change nothing, so one that fits now may as well happen now. */
function withoutReads(state: HeldState, operations: readonly LicenseOperation[]): LicenseOperation[] {
  let rest = [...operations];
  for (;;) {
    const deadline = firstAnswer(rest);
    const left = rest.filter(
      (operation) => operation.kind === 'change' || operation.state !== state || operation.askedAt > deadline,
    );
    if (left.length === rest.length) return rest;
    rest = left;
  }
}

/** Whatever was answered before it was asked has to come first. */
function canBeNext(operation: LicenseOperation, rest: readonly LicenseOperation[]): boolean {
  return operation.askedAt < firstAnswer(rest);
}

function firstAnswer(operations: readonly LicenseOperation[]): number {
  return operations.reduce((first, { answeredAt }) => Math.min(first, answeredAt ?? Infinity), Infinity);
}
