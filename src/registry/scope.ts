/** What a token is asked for (distribution, token scope documentation): `repository:library/nginx:pull,push`. */

export interface RepositoryScope {
  readonly repository: string;
  readonly actions: readonly ('pull' | 'push')[];
}

/** Scopes as a token request sends them: one line per repository, merged and sorted, so that equal needs are equal. */
export function formatScopes(scopes: readonly RepositoryScope[]): string[] {
  const actions = new Map<string, Set<string>>();
  for (const scope of scopes) {
    const known = actions.get(scope.repository) ?? new Set<string>();
    for (const action of scope.actions) known.add(action);
    actions.set(scope.repository, known);
  }
  return [...actions].map(([name, set]) => `repository:${name}:${[...set].sort().join(',')}`).sort();
}
