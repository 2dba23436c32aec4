/** The rate limits of a key server, by whom they count; each can be set at the start. */
import { LatchkeyError } from '#src/base/errors.ts';
import { ADDRESS_RATE, LICENSE_RATE, MAX_RATE_BURST, NODE_RATE, TOKEN_RATE } from './limits.ts';
import type { Rate } from './rate-limit.ts';

export interface Rates {
  /** Activations, challenges and proofs, each, from one address. */
  readonly address: Rate;
  /** Calls of one node. */
  readonly node: Rate;
  /** Activations, starts and renewals under one license, by all of its nodes. */
  readonly license: Rate;
  /** Requests to the admin API with one token. */
  readonly token: Rate;
}

export const DEFAULT_RATES: Rates = {
  address: ADDRESS_RATE,
  node: NODE_RATE,
  license: LICENSE_RATE,
  token: TOKEN_RATE,
};

/**
 * Reads settings like `node=20/300`: so many a second after a burst of so many. The last one of a name counts.
 * @throws LatchkeyError USAGE_INVALID
 */
export function parseRates(settings: readonly string[]): Rates {
  const rates: Record<string, Rate> = { ...DEFAULT_RATES };
  for (const setting of settings) {
    const [, name = '', perSecond, burst] =
      /^([a-z]+)=(\d{1,7}(?:\.\d{1,3})?)\/(\d{1,7})$/.exec(setting) ?? [];
    const rate = { perSecond: Number(perSecond), burst: Number(burst) };
    const isUsable = rate.perSecond > 0 && rate.burst >= 1 && rate.burst <= MAX_RATE_BURST;
    if (!Object.hasOwn(DEFAULT_RATES, name) || !isUsable) throw notARate(setting);
    rates[name] = rate;
  }
  return { ...DEFAULT_RATES, ...rates };
}

function notARate(setting: string): LatchkeyError {
  const names = Object.keys(DEFAULT_RATES).join(', ');
  return new LatchkeyError('USAGE_INVALID', `--rate-limit ${setting} is not a rate`, {
    hint: `give NAME=PER_SECOND/BURST, such as node=20/300; names are ${names}`,
  });
}
