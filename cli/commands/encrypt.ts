/** `latchkey encrypt`: from a plain image to one that runs only with a license or a recipient's key. */
import { type Command, Option } from 'commander';
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import type { AttestationChoice } from '#src/image/attestation-plan.ts';
import type { ImageGraph } from '#src/image/image-graph.ts';
import type { EncryptionPlan } from '#src/image/plan.ts';
import type { AdminClient } from '../admin-client.ts';
import { type AdminOptions, adminClientOf, withAdminOptions } from '../admin-options.ts';
import type { CommandContext } from '../context.ts';
import {
  LOCATION_HELP,
  NOBODY_VERIFIES,
  cacheDirectory,
  leftInPlaceNotes,
  openImage,
  repositoryName,
  requireWritable,
} from '../image-location.ts';
import {
  type LayerOptions,
  append,
  checkLayerOptions,
  layerSelection,
  readChosenPlatforms,
  withLayerOptions,
} from '../layer-options.ts';
import { type Output, outputOf } from '../output.ts';
import { createProgress } from '../progress.ts';
import { RECIPIENT_HELP } from '../recipient-help.ts';
import {
  type EntitlementOptions,
  carriedNotes,
  requireProductFor,
  withCarriedEntitlements,
} from '../required-entitlements.ts';
import {
  type EarlierRelease,
  type ReuseOptions,
  previewReuse,
  readEarlierRelease,
  reuseRequest,
  withReuseOptions,
} from '../reuse-options.ts';

interface EncryptOptions extends AdminOptions, LayerOptions, ReuseOptions, EntitlementOptions {
  readonly product?: string;
  readonly recipient: readonly string[];
  readonly attestations?: AttestationChoice;
  readonly scrubHistory?: boolean;
  readonly allowConfigLeak?: boolean;
  readonly keepDiffIds?: boolean;
  readonly signKey?: string;
  readonly dryRun?: boolean;
}

export function registerEncrypt(program: Command, context: CommandContext): void {
  const encryptCommand = withReuseOptions(withLayerOptions(withAdminOptions(program.command('encrypt'))));
  withCarriedEntitlements(encryptCommand, 'the release of --reuse-from')
    .description('encrypt layers of an image and register its key')
    .argument('<source>', LOCATION_HELP)
    .argument('<destination>', 'where the encrypted image goes, written the same way')
    .option('--product <code>', 'register the image key with the key server under this product')
    .option('--recipient <scheme:key>', `also encrypt to ${RECIPIENT_HELP}`, append, [])
    .addOption(
      new Option('--attestations <choice>', 'what becomes of SBOMs and provenance in the image').choices([
        'keep',
        'drop',
        'encrypt',
      ]),
    )
    .option('--scrub-history', 'empty the history: commands, comments and authors of the build')
    .option('--allow-config-leak', 'go on although the image shows what looks like a secret')
    .option('--sign-key <file>', 'also sign the release statement with this private key (Ed25519 or P-256)')
    .option('--keep-diff-ids', 'do not salt layers: a plain twin on a node then unlocks them')
    .option('--dry-run', 'show what would be encrypted, write nothing')
    .option('--allow-http', 'plain HTTP also to registries on other hosts')
    .addHelpText(
      'after',
      `
Examples:
  latchkey encrypt --product acme-web --base docker.io/library/nginx:1.27 \\
    docker://registry.acme.example/web:2.0-plain docker://registry.acme.example/web:2.0
  latchkey encrypt --product acme-web --reuse-from registry.acme.example/web:2.0 \\
    docker://registry.acme.example/web:2.1-plain docker://registry.acme.example/web:2.1
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
  checkLayerOptions(options);
  requireSomebody(options);
  requireProductFor(options);
  const [{ planEncryption }, { publishImage }] = await Promise.all([
    import('#src/image/plan.ts'),
    import('#src/image/publish.ts'),
  ]);
  const source = await openImage(context, sourceText, options.allowHttp);
  const destination = await openImage(context, destinationText, options.allowHttp);
  requireWritable(destination, destinationText);
  const { wrappers, ids: recipientIds } = await recipientsOf(context, options.recipient);
  const statementKey = await statementKeyOf(options);
  const client = await keyServerOf(context, command, options);
  const { graph, notes: attachedNotes } = await withAttestations(
    await readChosenPlatforms(source, options, signal),
    options,
    signal,
  );
  const { selection, notes: selectionNotes } = await layerSelection(context, options, graph);
  const isSalted = options.keepDiffIds !== true;
  const earlier = await readEarlierRelease(context, output, options);
  const registrar = await registrarFor(client, options, earlier);
  const decided = planEncryption(graph, selection, {
    attestations: options.attestations,
    isHistoryScrubbed: options.scrubHistory,
  });
  const plan =
    earlier === undefined
      ? decided
      : await previewReuse(decided, earlier, { isDry: options.dryRun === true, isSalted });
  const { planJson, planText, summaryText } = await import('../encryption-plan.ts');
  const notes = [...selectionNotes, ...plan.notes, ...attachedNotes];
  notes.forEach((note) => output.note(`note: ${note}`));
  if (options.dryRun === true) {
    output.result({ dryRun: true, ...planJson(plan, notes) }, () => planText(plan));
    return;
  }
  await requireNothingExposed(plan, options, output);
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
      statementKey,
      repository: repositoryName(destination.location),
      isSalted,
      reuse:
        earlier === undefined ? undefined : await reuseRequest(context, command, earlier, options.product),
      cacheDirectory: cacheDirectory(context),
      clock: context.clock,
      signal,
      onBytes: (deltaBytes) => progress.advance(deltaBytes),
      onLayers: (count, totalBytes) =>
        progress.start(`encrypting ${count === 1 ? 'one layer' : `${count} layers`}`, totalBytes),
      onLayersDone: () => progress.finish(),
      onPush: (totalBytes) => progress.start('pushing', totalBytes),
    });
    await destination.finish(signal);
    progress.finish();
    const isVerifiable = result.statement !== undefined;
    const doneNotes = [
      ...carriedNotes(options, earlier?.name ?? '', registrar?.entitlementCodes ?? []),
      ...(isVerifiable ? [] : [NOBODY_VERIFIES]),
      ...leftInPlaceNotes(source.store, destination.store, graph.root.descriptor.digest, 'in plaintext'),
    ];
    doneNotes.forEach((note) => output.note(`note: ${note}`));
    const summary = {
      destination: destinationText,
      digest: result.root,
      imageDigests: result.imageDigests,
      imageKeyId: result.imageKeyId,
      attached: result.attached,
      statement: result.statement,
      product: options.product,
      entitlementCodes: registrar?.entitlementCodes,
      resumed: result.isResumed,
      ...planJson(result.plan, [...notes, ...doneNotes]),
    };
    output.result(summary, () => summaryText(summary, result.plan));
  } catch (error) {
    progress.clear();
    await destination.discard();
    throw error;
  }
}

/** Takes attestations that were attached after the build for a part of the image, so that the same is asked of them. */
async function withAttestations(
  graph: ImageGraph,
  { attestations: choice }: EncryptOptions,
  signal: AbortSignal,
): Promise<{ graph: ImageGraph; notes: readonly string[] }> {
  const { leftBehindNotes, readAttachedArtifacts, withAttached } =
    await import('#src/image/attached-artifacts.ts');
  try {
    const { attestations, others } = await readAttachedArtifacts(graph, { signal });
    return { graph: withAttached(graph, attestations), notes: leftBehindNotes(others) };
  } catch (error) {
    const { code, message } = toLatchkeyError(error);
    // What is not taken along stays where it is; only who wants it taken along has to know before the run.
    if (code === 'INTERRUPTED' || choice === 'keep' || choice === 'encrypt') throw error;
    return {
      graph,
      notes: [`what is attached to the image cannot be listed, and is left with it: ${message}`],
    };
  }
}

function requireSomebody(options: EncryptOptions): void {
  if (options.product !== undefined || options.recipient.length > 0) return;
  throw new LatchkeyError('USAGE_INVALID', 'nobody could decrypt this image', {
    hint: 'say who may run it: --product CODE for license holders, or --recipient jwe:PUBLIC_KEY.pem',
  });
}

async function recipientsOf(context: CommandContext, recipients: readonly string[]) {
  if (recipients.length === 0) return { wrappers: [], ids: [] };
  const { readRecipients } = await import('../recipients.ts');
  return readRecipients(context, recipients);
}

async function statementKeyOf({ signKey }: EncryptOptions) {
  if (signKey === undefined) return undefined;
  return (await import('../signing-keys.ts')).readSigningKey(signKey);
}

/** Early, so that a missing token costs nothing. */
async function keyServerOf(context: CommandContext, command: Command, options: EncryptOptions) {
  if (options.dryRun === true || options.product === undefined) return undefined;
  return adminClientOf(context, command);
}

async function registrarFor(
  client: AdminClient | undefined,
  options: EncryptOptions,
  earlier: EarlierRelease | undefined,
) {
  if (client === undefined || options.product === undefined) return undefined;
  const [{ createAdminRegistrar }, { requiredBy }] = await Promise.all([
    import('../admin-registrar.ts'),
    import('../carried-entitlements.ts'),
  ]);
  return createAdminRegistrar(client, options.product, requiredBy(options, earlier?.graph));
}

/** What stays readable in the result is so because the ISV wants it. */
async function requireNothingExposed(
  plan: EncryptionPlan,
  options: EncryptOptions,
  output: Output,
): Promise<void> {
  const [{ requireAttestationChoice, requireKeptLayers }, { leakText, requireNoLeaks }] = await Promise.all([
    import('#src/image/attestation-plan.ts'),
    import('#src/image/config-lint.ts'),
  ]);
  requireAttestationChoice(plan.artifacts);
  requireKeptLayers(plan.platforms, options.attestations);
  if (options.allowConfigLeak !== true) requireNoLeaks(plan.leaks);
  plan.leaks.forEach((leak) => output.note(`note: stays readable: ${leakText(leak)}`));
}
