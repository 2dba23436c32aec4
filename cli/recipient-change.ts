/** Changes of an image's recipients as commands run them: checks, keys, publication, result. */
import type { Command } from 'commander';
import { LatchkeyError } from '#src/base/errors.ts';
import { type ImageGraph, readImageGraph } from '#src/image/image-graph.ts';
import { publish } from '#src/image/publication.ts';
import {
  type RecipientChange,
  changeRecipients,
  hasLicensedElements,
  remainingRecipients,
} from '#src/image/recipients.ts';
import { parseElementName } from '#src/keywrap/element-list.ts';
import { createAdminImageKeyMint } from './admin-image-key-mint.ts';
import { type AdminOptions, adminClientOf } from './admin-options.ts';
import { createAdminRegistrar } from './admin-registrar.ts';
import { requiredBy } from './carried-entitlements.ts';
import type { CommandContext } from './context.ts';
import { readDecryptionKeys } from './decryption-keys.ts';
import {
  NOBODY_VERIFIES,
  cacheDirectory,
  leftInPlaceNotes,
  openImage,
  repositoryName,
  requireWritable,
} from './image-location.ts';
import { formatFields, outputOf } from './output.ts';
import { requirePinned } from './pinned-image.ts';
import { createProgress } from './progress.ts';
import { readRecipients } from './recipients.ts';
import { type EntitlementOptions, carriedNotes, requireProductFor } from './required-entitlements.ts';
import { readSigningKey } from './signing-keys.ts';

export interface ChangeOptions extends AdminOptions, EntitlementOptions {
  readonly key: readonly string[];
  readonly recipient: readonly string[];
  readonly product?: string;
  readonly signKey?: string;
  readonly allowHttp?: boolean;
}

export interface RemoveOptions extends ChangeOptions {
  readonly keepLayerKeys?: boolean;
}

export interface ChangeRun {
  readonly context: CommandContext;
  readonly command: Command;
  readonly sourceText: string;
  readonly destinationText: string;
}

/** `latchkey recipients add`. */
export async function addRecipients(run: ChangeRun, options: ChangeOptions): Promise<void> {
  if (options.recipient.length === 0 && options.product === undefined) {
    throw new LatchkeyError('USAGE_INVALID', 'nobody is to be added', {
      hint: 'say who: --recipient jwe:PUBLIC_KEY.pem, or --product CODE for license holders',
    });
  }
  const opened = await openedChange(run, options);
  const graph = await readSource(run, options);
  if (options.product === undefined) requireNoLicenseHolders(graph);
  await change(run, options, graph, { kind: 'add', ...opened }, { added: opened.ids });
}

/** `latchkey recipients remove`. */
export async function removeRecipients(
  run: ChangeRun,
  elements: readonly string[],
  options: RemoveOptions,
): Promise<void> {
  const names = elements.map((text) => ({ text, name: parseElementName(text) }));
  if (options.keepLayerKeys === true) {
    await dropElements(run, names, options);
    return;
  }
  const opened = await openedChange(run, options);
  const graph = await readSource(run, options);
  const { licensed, others } = remainingRecipients(graph, names);
  if (licensed.length > 0 && options.product === undefined) {
    throw new LatchkeyError('USAGE_INVALID', `license holders (${licensed.join(', ')}) would be locked out`, {
      hint: 'give --product CODE to let them in again, or name them among those that go',
    });
  }
  if (others.length > options.recipient.length) {
    throw new LatchkeyError(
      'USAGE_INVALID',
      `more would stay (${others.join(', ')}) than --recipient was given (${options.recipient.length})`,
      { hint: 'give the public key of each one that stays, or name it among those that go' },
    );
  }
  if (options.recipient.length === 0 && options.product === undefined) {
    throw new LatchkeyError('USAGE_INVALID', 'nobody could open the image any more', {
      hint: 'say who stays: --recipient jwe:PUBLIC_KEY.pem, or --product CODE for license holders',
    });
  }
  await change(run, options, graph, { kind: 'rekey', ...opened }, { kept: opened.ids });
}

type NamedElements = Parameters<typeof remainingRecipients>[1];

async function dropElements(run: ChangeRun, names: NamedElements, options: RemoveOptions): Promise<void> {
  if (options.key.length > 0 || options.recipient.length > 0) {
    throw new LatchkeyError('USAGE_INVALID', '--keep-layer-keys needs no --key and adds no --recipient', {
      hint: 'leave out --keep-layer-keys to give the layers new keys',
    });
  }
  const graph = await readSource(run, options);
  const { licensed } = remainingRecipients(graph, names);
  if (licensed.length > 0 !== (options.product !== undefined)) {
    throw new LatchkeyError(
      'USAGE_INVALID',
      licensed.length > 0
        ? `license holders (${licensed.join(', ')}) stay, and the key server has to know the new image`
        : 'no license holder stays, so there is nothing to register',
      { hint: licensed.length > 0 ? 'give --product CODE' : 'leave out --product' },
    );
  }
  const dropped = { kind: 'drop', names: names.map(({ name }) => name) } as const;
  await change(run, options, graph, dropped, { dropped: names.map(({ text }) => text) }, [
    'the layers are as they were: whoever has kept a layer key or an older manifest can still decrypt them',
  ]);
}

/** `latchkey recipients rewrap`. */
export async function rewrapImage(
  run: ChangeRun,
  options: Omit<ChangeOptions, 'key' | 'recipient'>,
): Promise<void> {
  const graph = await readSource(run, options);
  await change(run, options, graph, { kind: 'rewrap' }, { rewrapped: true });
}

async function openedChange({ context, command }: ChangeRun, options: ChangeOptions) {
  if (options.key.length === 0) {
    throw new LatchkeyError('USAGE_INVALID', 'the layer keys have to be opened with a private key', {
      hint: 'give --key PRIVATE_KEY of one of the recipients; `latchkey recipients list` shows who they are',
    });
  }
  const unwrappers = await readDecryptionKeys(context, outputOf(context, command), options.key);
  const { wrappers, ids } = await readRecipients(context, options.recipient);
  return { unwrappers, wrappers, ids };
}

/** A new digest that the key server does not know would be refused on every node. */
function requireNoLicenseHolders(graph: ImageGraph): void {
  if (!hasLicensedElements(graph)) return;
  throw new LatchkeyError(
    'USAGE_INVALID',
    'license holders could not run the changed image: its digest is new',
    {
      hint: 'give --product CODE, which registers it; or take them out first with `latchkey recipients remove`',
    },
  );
}

async function readSource(
  { context, sourceText }: ChangeRun,
  options: Omit<ChangeOptions, 'key' | 'recipient'> & { readonly key?: readonly string[] },
): Promise<ImageGraph> {
  const source = await openImage(context, sourceText, options.allowHttp);
  const { product, signKey, key = [] } = options;
  const isReleased = product !== undefined || signKey !== undefined;
  // The key server looks at what it re-wraps; anything else that is signed afterwards, nobody has looked at.
  const isLookedAt = product !== undefined && key.length === 0;
  if (isReleased && !isLookedAt) requirePinned(source, sourceText);
  return readImageGraph(source.store, source.reference, { signal: context.signal });
}

async function change(
  run: ChangeRun,
  options: Omit<ChangeOptions, 'key' | 'recipient'>,
  graph: ImageGraph,
  recipientChange: RecipientChange,
  identity: Readonly<Record<string, unknown>>,
  changeNotes: readonly string[] = [],
): Promise<void> {
  const { context, command, destinationText } = run;
  const { signal } = context;
  const destination = await openImage(context, destinationText, options.allowHttp);
  requireWritable(destination, destinationText);
  requireProductFor(options);
  const { product, signKey } = options;
  const client = product === undefined ? undefined : await adminClientOf(context, command);
  const registrar =
    client && product !== undefined
      ? createAdminRegistrar(client, product, requiredBy(options, graph))
      : undefined;
  const output = outputOf(context, command);
  const progress = createProgress(context, output);
  const production = changeRecipients({
    graph,
    change: recipientChange,
    identity,
    mint: client && product !== undefined ? createAdminImageKeyMint(client, product) : undefined,
    signal,
    onBytes: (deltaBytes) => progress.advance(deltaBytes),
    onLayers: (count, totalBytes) =>
      progress.start(`encrypting ${count === 1 ? 'one layer' : `${count} layers`} again`, totalBytes),
    onLayersDone: () => progress.finish(),
  });
  const result = await publish(
    {
      destination: destination.store,
      tag: destination.tag,
      registrar,
      statementKey: signKey === undefined ? undefined : await readSigningKey(signKey),
      repository: repositoryName(destination.location),
      cacheDirectory: cacheDirectory(context),
      clock: context.clock,
      signal,
      onBytes: (deltaBytes) => progress.advance(deltaBytes),
      onPush: (totalBytes) => progress.start('pushing', totalBytes),
    },
    production,
  )
    .then(async (published) => {
      await destination.finish(signal);
      progress.finish();
      return published;
    })
    .finally(async () => {
      progress.clear();
      await destination.discard();
    });
  const { root, imageKeyId, statement, imageDigests } = result;
  const notes = [
    ...changeNotes,
    ...carriedNotes(options, run.sourceText, registrar?.entitlementCodes ?? []),
    ...(statement === undefined ? [NOBODY_VERIFIES] : []),
    ...leftInPlaceNotes(
      graph.source,
      destination.store,
      graph.root.descriptor.digest,
      'for those it was for',
    ),
  ];
  const summary = {
    destination: destinationText,
    digest: root,
    imageDigests,
    imageKeyId,
    product,
    entitlementCodes: registrar?.entitlementCodes,
    statement,
    notes,
  };
  notes.forEach((note) => output.note(`note: ${note}`));
  output.result(summary, () =>
    formatFields([
      ['image', destinationText],
      ['digest', root],
      ['image key', imageKeyId],
    ]),
  );
}
