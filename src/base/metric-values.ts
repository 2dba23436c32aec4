/** Values that metrics are made of: what is counted, and what is measured in buckets. */
import type { HistogramSample, Sample } from './prometheus-text.ts';

/** Counts by one label, whose values must be few. */
export class LabelledCounter {
  readonly #label: string;
  readonly #counts = new Map<string, number>();

  constructor(label: string) {
    this.#label = label;
  }

  add(value: string, by = 1): void {
    this.#counts.set(value, (this.#counts.get(value) ?? 0) + by);
  }

  samples(): Sample[] {
    return [...this.#counts].map(([value, count]) => ({ labels: { [this.#label]: value }, value: count }));
  }
}

/** A cumulative histogram. */
export class Histogram {
  readonly #bounds: readonly number[];
  readonly #counts: number[];
  #sum = 0;

  /** @param bounds upper bounds, ascending, without the infinite one */
  constructor(bounds: readonly number[]) {
    this.#bounds = [...bounds, Infinity];
    this.#counts = this.#bounds.map(() => 0);
  }

  observe(value: number): void {
    this.#sum += value;
    for (const [index, bound] of this.#bounds.entries()) {
      if (value <= bound) this.#counts[index] = (this.#counts[index] ?? 0) + 1;
    }
  }

  sample(labels?: Readonly<Record<string, string>>): HistogramSample {
    const buckets = this.#bounds.map((bound, index) => [bound, this.#counts[index] ?? 0] as const);
    return { ...(labels === undefined ? {} : { labels }), buckets, sum: this.#sum };
  }
}
