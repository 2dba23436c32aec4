/** `--reuse-from` and `--reuse-key`: the earlier release whose unchanged layers a new one takes over. */
import type { Command } from 'commander';
import { LatchkeyError } from '#src/base/errors.ts';
import type { ImageGraph } from '#src/image/image-graph.ts';
import type { EncryptionPlan } from '#src/image/plan.ts';
import type { ReuseRequest } from '#src/image/reuse.ts';
import type { KeyUnwrapper } from '#src/keywrap/key-wrapper.ts';
import { adminClientOf } from './admin-options.ts';
import type { CommandContext } from './context.ts';
import { openImage } from './image-location.ts';
import type { Output } from './output.ts';
import { requirePinned } from './pinned-image.ts';
import { KEY_FORM } from './recipient-help.ts';

export interface ReuseOptions {
  readonly reuseFrom?: string;
  readonly reuseKey: readonly string[];
}

interface ReuseContext extends ReuseOptions {
  readonly product?: string;
  readonly recipient: readonly string[];
  readonly allowHttp?: boolean;
}

export function withReuseOptions(command: Command): Command {
  return command
    .option('--reuse-from <image>', 'take over layers of this earlier release that did not change')
    .option(
      `--reuse-key <${KEY_FORM}>`,
      'private key of a recipient of that release, to open its layer keys here; repeatable',
      (value: string, before: readonly string[]) => [...before, value],
      [],
    );
}

/** An earlier release, read but not opened. */
export interface EarlierRelease {
  readonly name: string;
  readonly graph: ImageGraph;
  /** Empty when the layer keys stay in the key server. */
  readonly unwrappers: readonly KeyUnwrapper[];
}

/**
 * Reads the earlier release; undefined when none is named.
 * @throws LatchkeyError USAGE_INVALID, and what reading image and keys raises
 */
export async function readEarlierRelease(
  context: CommandContext,
  output: Output,
  options: ReuseContext,
): Promise<EarlierRelease | undefined> {
  const { reuseFrom: name, reuseKey } = options;
  if (name === undefined) {
    if (reuseKey.length === 0) return undefined;
    throw new LatchkeyError('USAGE_INVALID', '--reuse-key opens layers of an image that is not named', {
      hint: 'name it with --reuse-from',
    });
  }
  requireKeys(options);
  const earlier = await openImage(context, name, options.allowHttp);
  if (reuseKey.length > 0) requirePinned(earlier, name);
  const [{ readImageGraph }, { readDecryptionKeys }] = await Promise.all([
    import('#src/image/image-graph.ts'),
    import('./decryption-keys.ts'),
  ]);
  return {
    name,
    graph: await readImageGraph(earlier.store, earlier.reference, { signal: context.signal }),
    unwrappers: reuseKey.length === 0 ? [] : await readDecryptionKeys(context, output, reuseKey),
  };
}

function requireKeys({ product, recipient, reuseKey }: ReuseContext): void {
  if (reuseKey.length > 0) return;
  if (product === undefined) {
    throw new LatchkeyError('USAGE_INVALID', 'nothing opens the layer keys of the earlier release', {
      hint: 'give --product, so that the key server wraps them anew, or --reuse-key PRIVATE_KEY',
    });
  }
  if (recipient.length > 0) {
    throw new LatchkeyError(
      'USAGE_INVALID',
      'the key server wraps the keys of reused layers for license holders only, not for --recipient',
      { hint: 'open them here with --reuse-key PRIVATE_KEY of a recipient of the earlier release' },
    );
  }
}

/**
 * What taking layers over needs.
 * @throws LatchkeyError USAGE_INVALID, AUTH_REQUIRED
 */
export async function reuseRequest(
  context: CommandContext,
  command: Command,
  { name, graph, unwrappers }: EarlierRelease,
  productCode: string | undefined,
): Promise<ReuseRequest> {
  if (unwrappers.length > 0) return { name, graph, keys: { kind: 'local', unwrappers } };
  if (productCode === undefined) throw new TypeError('nobody opens the layers');
  const { createAdminImageKeyMint } = await import('./admin-image-key-mint.ts');
  const mint = createAdminImageKeyMint(await adminClientOf(context, command), productCode);
  return { name, graph, keys: { kind: 'key-server', mint } };
}

/** The plan with notes on the earlier release; in a dry run with what would be taken over, as far as that can be known. */
export async function previewReuse(
  plan: EncryptionPlan,
  { name, graph, unwrappers }: EarlierRelease,
  run: { readonly isDry: boolean; readonly isSalted: boolean },
): Promise<EncryptionPlan> {
  const [{ matchLayers, withReuse, reuseNotes }, { openEarlierLayers }] = await Promise.all([
    import('#src/image/reuse.ts'),
    import('#src/image/earlier-layers.ts'),
  ]);
  const notes = [...plan.notes, ...reuseNotes(plan, { graph, name })];
  if (!run.isDry) return { ...plan, notes };
  if (unwrappers.length === 0) {
    const unknown = `only the key server can tell which layers are those of ${name}: the run decides it`;
    return { ...plan, notes: [...notes, unknown] };
  }
  const earlier = await openEarlierLayers(graph, name, unwrappers);
  return { ...withReuse(plan, name, matchLayers(plan, earlier, run.isSalted)), notes };
}
