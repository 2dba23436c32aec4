/** Codes in one text column, with spaces between them; no code holds one. */

/** Gives the column; null = none. The order and repetitions of the codes do not matter. */
export function toCodeColumn(codes: readonly string[]): string | null {
  return codes.length === 0 ? null : [...new Set(codes)].sort().join(' ');
}

/** Gives the codes, sorted. */
export function fromCodeColumn(column: string | null): string[] {
  return column === null ? [] : column.split(' ');
}
