/** `latchkey encrypt`: from a plain image to one that runs only with a license or a recipient's key. */
import type { Command } from 'commander';
import { LatchkeyError } from '#src/base/errors.ts';
import type { EncryptionPlan, LayerSelection } from '#src/image/plan.ts';
import { type AdminOptions, adminClientOf, withAdminOptions } from '../admin-options.ts';
import type { CommandContext } from '../context.ts';
import {
  LOCATION_HELP,
  cacheDirectory,
  openImage,
  repositoryName,
  requireWritable,
} from '../image-location.ts';
import { planJson, planText } from '../encryption-plan.ts';
import { formatFields, outputOf } from '../output.ts';
import { createProgress } from '../progress.ts';

interface EncryptOptions extends AdminOptions {
  readonly product?: string;
  readonly recipient: readonly string[];
  readonly layer: readonly number[];
  readonly allLayers?: boolean;
  readonly base?: string;
  readonly keepDiffIds?: boolean;
  readonly dryRun?: boolean;
  readonly allowHttp?: boolean;
}

export function registerEncrypt(program: Command, context: CommandContext): void {
  withAdminOptions(program.command('encrypt'))
    .description('encrypt layers of an image and register its key')
    .argument('<source>', LOCATION_HELP)
    .argument('<destination>', 'where the encrypted image goes, written the same way')
    .option('--product <code>', 'register the image key with the key server under this product')
    .option('--recipient <jwe:file>', 'also encrypt to this public key; repeatable', append, [])
    .option('--layer <n>', 'encrypt layer n (0 is the base, -1 the top); repeatable', appendNumber, [])
    .option('--all-layers', 'encrypt all layers')
    .option('--base <image>', 'leave the layers shared with this image plain')
    .option('--keep-diff-ids', 'do not salt layers: a plain twin on a node then unlocks them')
    .option('--dry-run', 'show what would be encrypted, write nothing')
    .option('--allow-http', 'plain HTTP also to registries on other hosts')
    .addHelpText(
      'after',
      `
Examples:
  latchkey encrypt --product acme-web --base docker.io/library/nginx:1.27 \\
    docker://registry.acme.example/web:2.0-plain docker://registry.acme.example/web:2.0
  latchkey encrypt --recipient jwe:customer.pub.pem oci:build:web oci:encrypted:web`,
    )
    .action(async (source: string, destination: string, options: EncryptOptions, command: Command) => {
      await encrypt(context, command, source, destination, options);
    });
}

async function encrypt(
  context: CommandContext,
  command: Command,
  sourceText: string,
  destinationText: string,
  options: EncryptOptions,
): Promise<void> {
  const output = outputOf(context, command);
  const { signal } = context;
  requireSomebody(options);
  const [{ readImageGraph }, { planEncryption }, { publishImage }] = await Promise.all([
    import('#src/image/image-graph.ts'),
    import('#src/image/plan.ts'),
    import('#src/image/publish.ts'),
  ]);
  const source = await openImage(context, sourceText, options.allowHttp);
  const destination = await openImage(context, destinationText, options.allowHttp);
  requireWritable(destination, destinationText);
  const { wrappers, recipientIds } = await jweWrappers(options.recipient);
  const registrar =
    options.dryRun === true ? undefined : await registrarFor(context, command, options.product);
  const graph = await readImageGraph(source.store, source.reference, { signal });
  const plan = planEncryption(graph, await selectionFrom(context, options));
  plan.notes.forEach((note) => output.note(`note: ${note}`));
  if (options.dryRun === true) {
    output.result({ dryRun: true, platforms: planJson(plan) }, () => planText(plan));
    return;
  }
  const progress = createProgress(context, output);
  try {
    const result = await publishImage({
      graph,
      plan,
      destination: destination.store,
      tag: destination.tag,
      wrappers,
      recipientIds,
      registrar,
      repository: repositoryName(destination.location),
      isSalted: options.keepDiffIds !== true,
      cacheDirectory: cacheDirectory(context),
      clock: context.clock,
      signal,
      onBytes: (deltaBytes) => progress.advance(deltaBytes),
      onLayer: ({ descriptor }, number, total) =>
        progress.start(`encrypting layer ${number} of ${total}`, descriptor.size),
      onLayerDone: () => progress.finish(),
      onPush: (totalBytes) => progress.start('pushing', totalBytes),
    });
    progress.clear();
    const summary = {
      destination: destinationText,
      digest: result.root,
      imageDigests: result.imageDigests,
      imageKeyId: result.imageKeyId,
      product: options.product,
      resumed: result.isResumed,
      platforms: planJson(plan),
    };
    output.result(summary, () => summaryText(summary, plan));
  } catch (error) {
    progress.clear();
    throw error;
  }
}

function requireSomebody(options: EncryptOptions): void {
  const choices = [options.layer.length > 0, options.allLayers === true, options.base !== undefined];
  if (choices.filter(Boolean).length > 1) {
    throw new LatchkeyError('USAGE_INVALID', '--layer, --all-layers and --base exclude each other');
  }
  if (options.product !== undefined || options.recipient.length > 0) return;
  throw new LatchkeyError('USAGE_INVALID', 'nobody could decrypt this image', {
    hint: 'say who may run it: --product CODE for license holders, or --recipient jwe:PUBLIC_KEY.pem',
  });
}

async function jweWrappers(recipients: readonly string[]) {
  if (recipients.length === 0) return { wrappers: [], recipientIds: [] };
  const { readRecipients } = await import('../recipients.ts');
  const { createJweWrapper } = await import('#src/keywrap/jwe.ts');
  const { keys, ids } = await readRecipients(recipients);
  return { wrappers: [createJweWrapper(keys)], recipientIds: ids };
}

async function registrarFor(context: CommandContext, command: Command, product: string | undefined) {
  if (product === undefined) return undefined;
  const { createAdminRegistrar } = await import('../admin-registrar.ts');
  return createAdminRegistrar(await adminClientOf(context, command), product);
}

async function selectionFrom(context: CommandContext, options: EncryptOptions): Promise<LayerSelection> {
  if (options.allLayers === true) return { kind: 'all' };
  if (options.layer.length > 0) return { kind: 'layers', positions: options.layer };
  if (options.base === undefined) return { kind: 'default' };
  const { readImageGraph } = await import('#src/image/image-graph.ts');
  const { store, reference } = await openImage(context, options.base, options.allowHttp);
  const base = await readImageGraph(store, reference, { signal: context.signal });
  return { kind: 'base', name: options.base, base };
}

function summaryText(
  summary: { destination: string; digest: string; imageKeyId?: string | undefined; resumed: boolean },
  plan: EncryptionPlan,
): string {
  const counts = plan.platforms.map(({ platform, layers }) => {
    const encrypted = layers.filter((layer) => layer.isEncrypted).length;
    return `${encrypted} of ${layers.length} layers for ${platform}`;
  });
  return formatFields([
    ['encrypted', counts.join(', ')],
    ['image', summary.destination],
    ['digest', summary.digest],
    ['image key', summary.imageKeyId],
    ['resumed', summary.resumed ? 'yes: ciphertext of the run before was used' : undefined],
  ]);
}

function append(value: string, before: readonly string[]): readonly string[] {
  return [...before, value];
}

function appendNumber(value: string, before: readonly number[]): readonly number[] {
  if (/^-?\d{1,4}$/.test(value)) return [...before, Number(value)];
  throw new LatchkeyError('USAGE_INVALID', `--layer ${JSON.stringify(value)} is not a layer number`, {
    hint: '0 is the base layer, -1 the top one; `latchkey inspect` lists them',
  });
}
