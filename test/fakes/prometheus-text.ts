/**
 * Reads Prometheus' text format 0.0.4, strictly: each family has its help and type before its samples, all its samples in one
 * place, no sample twice, and histograms that add up.
 */
const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)/gy;

/** @returns the value of each sample, by its line without the value */
export function parsePrometheusText(text: string): Map<string, number> {
  const samples = new Map<string, number>();
  const families = new Set<string>();
  let family = { name: '', type: '' };
  let helped = '';
  if (!text.endsWith('\n')) throw new Error('the last line does not end');
  for (const line of text.split('\n')) {
    if (line === '') continue;
    const [, kind, name = '', rest = ''] = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line) ?? [];
    if (kind === 'HELP') {
      if (!NAME.test(name) || families.has(name)) throw new Error(`family ${name} is malformed or split`);
      families.add(name);
      helped = name;
    } else if (kind === 'TYPE') {
      if (helped !== name || !['counter', 'gauge', 'histogram'].includes(rest)) throw new Error(line);
      family = { name, type: rest };
    } else {
      const [, sample = '', labels = '', value = ''] = SAMPLE.exec(line) ?? [];
      const suffix = sample.slice(family.name.length);
      const suffixes = family.type === 'histogram' ? ['_bucket', '_sum', '_count'] : [''];
      if (!sample.startsWith(family.name) || !suffixes.includes(suffix)) throw new Error(`stray ${line}`);
      if (family.type === 'counter' && !sample.endsWith('_total')) throw new Error(`counter ${sample}`);
      checkLabels(labels, line);
      const number = value === '+Inf' ? Infinity : Number(value);
      if (Number.isNaN(number)) throw new Error(`no number in ${line}`);
      const key = line.slice(0, -value.length - 1);
      if (samples.has(key)) throw new Error(`twice ${key}`);
      samples.set(key, number);
    }
  }
  checkHistograms(samples);
  return samples;
}

/** The value of one sample, of a text that is read strictly. */
export function metricValue(text: string, sample: string): number | undefined {
  return parsePrometheusText(text).get(sample);
}

function checkLabels(labels: string, line: string): void {
  const names = new Set<string>();
  LABEL.lastIndex = 0;
  while (LABEL.lastIndex < labels.length) {
    const [, name = ''] = LABEL.exec(labels) ?? [];
    if (name === '' || names.has(name)) throw new Error(`labels of ${line}`);
    names.add(name);
  }
}

function checkHistograms(samples: ReadonlyMap<string, number>): void {
  let before = 0;
  for (const [key, value] of samples) {
    if (!key.includes('_bucket{')) before = 0;
    else {
      if (value < before) throw new Error(`${key} is less than the bucket before`);
      before = key.includes('le="+Inf"') ? 0 : value;
    }
  }
}
