/** Which layers and platforms a command is about, as a command line says it. */
import { type Command, InvalidArgumentError } from 'commander';
import { LatchkeyError } from '#src/base/errors.ts';
import type { ImageGraph } from '#src/image/image-graph.ts';
import type { LayerSelection } from '#src/image/layer-selection.ts';
import type { ImageReference } from '#src/oci/reference.ts';
import type { OpenedImage } from '#src/registry/open-location.ts';
import type { BlobSource } from '#src/store/blob-store.ts';
import type { CommandContext } from './context.ts';
import { openImage } from './image-location.ts';

export interface LayerOptions {
  readonly layer: readonly number[];
  readonly platform: readonly string[];
  readonly allLayers?: boolean;
  readonly base?: string;
  readonly allowHttp?: boolean;
}

export interface FoundSelection {
  readonly selection: LayerSelection;
  /** How it came about, for people. */
  readonly notes: readonly string[];
}

/** Declares the options. */
export function withLayerOptions(command: Command): Command {
  return command
    .option('--layer <n>', 'encrypt layer n (0 is the base, -1 the top); repeatable', appendNumber, [])
    .option('--all-layers', 'encrypt all layers, also those of a public base')
    .option('--base <image>', 'leave the layers shared with this image plain; by default the noted base')
    .option('--platform <os/arch>', 'only this platform is in the result; repeatable', append, []);
}

/**
 * Refuses options that contradict each other.
 * @throws LatchkeyError USAGE_INVALID
 */
export function checkLayerOptions(options: LayerOptions): void {
  const choices = [options.layer.length > 0, options.allLayers === true, options.base !== undefined];
  if (choices.filter(Boolean).length < 2) return;
  throw new LatchkeyError('USAGE_INVALID', '--layer, --all-layers and --base exclude each other', {
    hint: 'give one of them',
  });
}

/**
 * Reads the image without the platforms that were not asked for.
 * @throws LatchkeyError USAGE_INVALID, and what reading raises
 */
export async function readChosenPlatforms(
  { store, reference }: Pick<OpenedImage, 'store' | 'reference'>,
  options: LayerOptions,
  signal: AbortSignal,
): Promise<ImageGraph> {
  const [{ readImageGraph }, { parsePlatform, selectPlatforms, wantedEntries }] = await Promise.all([
    import('#src/image/image-graph.ts'),
    import('#src/image/platform-selection.ts'),
  ]);
  const wanted = options.platform.map(parsePlatform);
  const graph = await readImageGraph(store, reference, { signal, isWanted: wantedEntries(wanted) });
  return selectPlatforms(graph, wanted);
}

/**
 * Finds out which layers are meant; reads the base when one is named, or noted in the image.
 * @throws LatchkeyError what reading the named base raises
 */
export async function layerSelection(
  context: CommandContext,
  options: LayerOptions,
  graph: ImageGraph,
): Promise<FoundSelection> {
  const { signal } = context;
  if (options.allLayers === true) return { selection: { kind: 'all' }, notes: [] };
  if (options.layer.length > 0) {
    return { selection: { kind: 'layers', positions: options.layer }, notes: [] };
  }
  if (options.base !== undefined) {
    const { readImageGraph } = await import('#src/image/image-graph.ts');
    const { store, reference } = await openImage(context, options.base, options.allowHttp);
    const base = await readImageGraph(store, reference, { signal });
    return { selection: { kind: 'base', bases: [{ name: options.base, graph: base }] }, notes: [] };
  }
  const { readNotedBases } = await import('#src/image/base-image.ts');
  const { allowHttp } = options;
  const openBase = async (name: ImageReference): Promise<BlobSource> => {
    const { openRegistry } = await import('#src/registry/registry-store.ts');
    // Nobody's credentials: what only this user can read is not public.
    return openRegistry(name, { allowHttp, hostLimit: context.hostLimit });
  };
  const { bases, notes } = await readNotedBases(graph, openBase, { signal });
  return { selection: bases.length === 0 ? { kind: 'default' } : { kind: 'base', bases }, notes };
}

/** For options that may be given several times. */
export function append(value: string, before: readonly string[]): readonly string[] {
  return [...before, value];
}

function appendNumber(value: string, before: readonly number[]): readonly number[] {
  if (/^-?\d{1,4}$/.test(value)) return [...before, Number(value)];
  throw new InvalidArgumentError(
    'It is not a layer number: 0 is the base layer, -1 the top one; `latchkey inspect` lists them.',
  );
}
