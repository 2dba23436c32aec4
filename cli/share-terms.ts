/** How a key is to be shared, as options. */
import { InvalidArgumentError, Option } from 'commander';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_KEY_SHARES } from '#src/base/limits.ts';

const DEFAULT_SHARES = 5;
const DEFAULT_THRESHOLD = 3;

export function sharesOption(): Option {
  return new Option('--shares <number>', 'how many people get one')
    .argParser(shareCount)
    .default(DEFAULT_SHARES);
}

export function thresholdOption(): Option {
  return new Option('--threshold <number>', 'how many of them it takes')
    .argParser(shareCount)
    .default(DEFAULT_THRESHOLD);
}

/** @throws LatchkeyError USAGE_INVALID when it takes more shares than there are */
export function checkShareTerms(terms: { readonly shares: number; readonly threshold: number }): void {
  if (terms.threshold <= terms.shares) return;
  throw new LatchkeyError(
    'USAGE_INVALID',
    `${terms.threshold} of ${terms.shares} shares can never come together`,
    {
      hint: 'give a --threshold that is at most --shares',
    },
  );
}

/** Shares for a person, to be written down. */
export function sharesText(label: string, threshold: number, shares: readonly string[]): string {
  const lines = shares.map((share, index) => `  ${String(index + 1).padStart(2)}  ${share}`);
  return [
    `shares of ${label}, any ${threshold} of which open the root key; shown this once:`,
    ...lines,
    '',
  ].join('\n');
}

function shareCount(text: string): number {
  const count = Number(text);
  if (/^\d{1,3}$/.test(text) && count >= 2 && count <= MAX_KEY_SHARES) return count;
  throw new InvalidArgumentError(`Give a number from 2 to ${MAX_KEY_SHARES}.`);
}
