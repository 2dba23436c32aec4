/** Metrics in the text that Prometheus reads: exposition format 0.0.4. Pure. */

export interface Sample {
  readonly labels?: Readonly<Record<string, string>>;
  readonly value: number;
}

interface Family {
  /** With its unit, and `_total` for a counter. */
  readonly name: string;
  readonly help: string;
}

export interface PlainFamily extends Family {
  readonly type: 'counter' | 'gauge';
  readonly samples: readonly Sample[];
}

export interface HistogramFamily extends Family {
  readonly type: 'histogram';
  readonly histograms: readonly HistogramSample[];
}

export interface HistogramSample {
  readonly labels?: Readonly<Record<string, string>>;
  /** Upper bounds, ascending, and how many values were at most as large; the last bound is +Inf. */
  readonly buckets: readonly (readonly [bound: number, count: number])[];
  readonly sum: number;
}

export type MetricFamily = PlainFamily | HistogramFamily;

export const PROMETHEUS_CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/** Families in the order given. */
export function prometheusText(families: readonly MetricFamily[]): string {
  return families.flatMap((family) => [...header(family), ...lines(family), '']).join('\n');
}

function header({ name, help, type }: MetricFamily): string[] {
  const escaped = help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
  return [`# HELP ${name} ${escaped}`, `# TYPE ${name} ${type}`];
}

function lines(family: MetricFamily): string[] {
  if (family.type !== 'histogram') {
    return family.samples.map(({ labels, value }) => line(family.name, labels, value));
  }
  return family.histograms.flatMap(({ labels, buckets, sum }) => [
    ...buckets.map(([bound, count]) =>
      line(`${family.name}_bucket`, { ...labels, le: number(bound) }, count),
    ),
    line(`${family.name}_sum`, labels, sum),
    line(`${family.name}_count`, labels, buckets.at(-1)?.[1] ?? 0),
  ]);
}

function line(name: string, labels: Readonly<Record<string, string>> = {}, value: number): string {
  const pairs = Object.entries(labels).map(([label, text]) => `${label}="${escapeLabel(text)}"`);
  return `${name}${pairs.length === 0 ? '' : `{${pairs.join(',')}}`} ${number(value)}`;
}

function escapeLabel(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}

function number(value: number): string {
  if (value === Infinity) return '+Inf';
  return value === -Infinity ? '-Inf' : String(value);
}
