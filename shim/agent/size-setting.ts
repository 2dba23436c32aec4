/** Sizes as an operator writes them. */

const UNITS = { '': 0, k: 1, m: 2, g: 3, t: 4 } as const;

/** @param text digits and, for powers of 1024, one of k, m, g, t in any case; the configuration's schema has checked it */
export function parseSizeBytes(text: string): number {
  const unit = text.replace(/^\d+/, '').toLowerCase() as keyof typeof UNITS;
  return Number.parseInt(text, 10) * 1024 ** UNITS[unit];
}
