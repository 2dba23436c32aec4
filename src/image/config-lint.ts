/**
 * What looks like a secret in the parts of an image that encryption of layers leaves readable: the configs of all
 * platforms, and annotations. Pure, and it never gives a value, only where it is.
 */
import { LatchkeyError } from '#src/base/errors.ts';
import type { ExecutionConfig, ImageConfig } from '#src/oci/config.ts';
import { type DocumentPath, type FieldSighting, lintDocument } from './document-lint.ts';
import type { ImageGraph } from './image-graph.ts';
import { platformName } from './image-graph.ts';
import { withoutHistory } from './rewrite-config.ts';
import { secretsIn, secretsInPair, unnamedSecretsIn } from './secret-shapes.ts';

export interface LeakFinding {
  /** `linux/amd64`, or `index`. */
  readonly where: string;
  /** `Env`, `Labels`, `history 3` ... */
  readonly field: string;
  /** Of the variable, label or flag, when it has one. */
  readonly name?: string | undefined;
  readonly reason: string;
}

/**
 * Looks at everything of an image that stays readable.
 * @param isHistoryScrubbed true when the history will be empty
 */
export function lintImage(graph: ImageGraph, isHistoryScrubbed: boolean): LeakFinding[] {
  return graph.nodes.flatMap((node): LeakFinding[] => {
    switch (node.kind) {
      case 'image': {
        const config = isHistoryScrubbed ? withoutHistory(node.config) : node.config;
        return distinct([...lintConfig(config), ...lintDocument(node.manifest)], platformName(node));
      }
      case 'index':
        return distinct(lintDocument(node.index), 'index');
      case 'artifact':
        return distinct(lintDocument(node.manifest), 'artifact');
      case 'opaque':
        // Its entry is looked at with the index; what it is itself, nobody here can say.
        return [];
    }
  });
}

/** Looks at one image config: at known fields as what they are, at all others as texts. */
export function lintConfig(config: ImageConfig): FieldSighting[] {
  const history = config.history ?? [];
  return [
    ...lintExecution(config.config, ''),
    ...lintExecution(config.container_config, 'container_config.'),
    ...lintText('comment', config.comment),
    ...history.flatMap(({ created_by, comment, author }, at) =>
      [created_by, comment, author].flatMap((text) => lintText(`history ${at}`, text)),
    ),
    ...lintText(BUILD_INFO, buildInfoOf(config)),
    ...lintDocument(config, isKnownField),
  ];
}

const BUILD_INFO = 'moby.buildkit.buildinfo.v1';
const COMMAND_FIELDS = ['Cmd', 'Entrypoint', 'OnBuild', 'Shell', 'Env'];
const HISTORY_FIELDS = ['created_by', 'comment', 'author'];

/** What the named rules above look at. */
function isKnownField([top = '', second = '', third = '']: DocumentPath): boolean {
  if (top === 'comment' || top === BUILD_INFO) return true;
  if (top === 'history') return HISTORY_FIELDS.includes(third);
  if (top !== 'config' && top !== 'container_config') return false;
  if (second === 'Healthcheck') return third === 'Test';
  return COMMAND_FIELDS.includes(second) || (second === 'Labels' && third !== '');
}

/**
 * Refuses an image that would show secrets.
 * @throws LatchkeyError INPUT_SECRET_EXPOSED, naming where they are
 */
export function requireNoLeaks(leaks: readonly LeakFinding[]): void {
  if (leaks.length === 0) return;
  const shown = leaks.slice(0, MAX_SHOWN_LEAKS).map(leakText);
  const more = leaks.length > shown.length ? [`and ${leaks.length - shown.length} more`] : [];
  const isHistory = leaks.some(({ field }) => field.startsWith('history'));
  const scrub = isHistory ? ', empty the history with --scrub-history' : '';
  throw new LatchkeyError(
    'INPUT_SECRET_EXPOSED',
    `what looks like a secret would stay readable by anybody: ${[...shown, ...more].join('; ')}`,
    {
      hint: `give it at run time or as a build secret${scrub}, or go on with --allow-config-leak`,
    },
  );
}

/** An error is read in a terminal; the JSON of `--dry-run` has them all. */
const MAX_SHOWN_LEAKS = 10;

/** `linux/amd64 Env DB_PASSWORD (its name says it is a secret)` */
export function leakText({ where, field, name, reason }: LeakFinding): string {
  return `${[where, field, name].filter((part) => part !== undefined).join(' ')} (${reason})`;
}

function lintExecution(config: ExecutionConfig | null | undefined, prefix: string): FieldSighting[] {
  if (config === null || config === undefined) return [];
  const { Env, Labels, Cmd, Entrypoint, OnBuild, Shell, Healthcheck } = config;
  const commands = { Cmd, Entrypoint, OnBuild, Shell, Healthcheck: Healthcheck?.Test };
  return [
    ...(Env ?? []).flatMap((entry) => {
      const [name = '', ...value] = entry.split('=');
      if (value.length === 0) return lintText(`${prefix}Env`, entry);
      return [
        ...unnamedSecretsIn(name).map((sighting) => ({ ...sighting, field: `${prefix}Env` })),
        ...lintPair(`${prefix}Env`, name, value.join('=')),
      ];
    }),
    ...Object.entries(Labels ?? {}).flatMap(([name, value]) => lintPair(`${prefix}Labels`, name, value)),
    ...Object.entries(commands).flatMap(([field, words]) => lintText(`${prefix}${field}`, words?.join(' '))),
  ];
}

function lintPair(field: string, name: string, value: string): FieldSighting[] {
  return secretsInPair(name, value).map((sighting) => ({ ...sighting, field }));
}

function lintText(field: string, text: string | undefined): FieldSighting[] {
  return text === undefined ? [] : secretsIn(text).map((sighting) => ({ ...sighting, field }));
}

/** The record is JSON in base64; what is not, is looked at as it is. */
function buildInfoOf(config: ImageConfig): string | undefined {
  const value = config[BUILD_INFO];
  if (value === undefined) return undefined;
  return typeof value === 'string' ? Buffer.from(value, 'base64').toString('utf8') : JSON.stringify(value);
}

function distinct(sightings: readonly FieldSighting[], where: string): LeakFinding[] {
  const findings = sightings.map(({ field, name, reason }) => ({ where, field, name, reason }));
  return [...new Map(findings.map((finding) => [leakText(finding), finding])).values()];
}
