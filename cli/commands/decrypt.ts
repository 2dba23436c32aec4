/** `latchkey decrypt`: from an encrypted image to a plain one, with a recipient's private key. */
import type { Command } from 'commander';
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import type { ImageGraph } from '#src/image/image-graph.ts';
import type { KeyUnwrapper } from '#src/keywrap/key-wrapper.ts';
import type { CommandContext } from '../context.ts';
import { LOCATION_HELP, openImage, requireWritable } from '../image-location.ts';
import { formatFields, outputOf } from '../output.ts';
import { createProgress } from '../progress.ts';
import { KEY_FORM, KEY_HELP } from '../recipient-help.ts';

interface DecryptOptions {
  readonly key: readonly string[];
  readonly allowHttp?: boolean;
}

const HELP = `
${KEY_HELP}

Examples:
  latchkey decrypt --key customer.pem docker://registry.acme.example/web:2.0 oci:plain:web
  latchkey decrypt --key customer.pem:file=password.txt --key customer.crt oci:encrypted:web oci:plain:web`;

export function registerDecrypt(program: Command, context: CommandContext): void {
  program
    .command('decrypt')
    .description('decrypt an image with the private key of one of its recipients')
    .argument('<source>', LOCATION_HELP)
    .argument('<destination>', 'where the plain image goes: oci:DIRECTORY[:TAG] or oci-archive:FILE[:TAG]')
    .option(`--key <${KEY_FORM}>`, 'private key that opens the image; repeatable', append, [])
    .option('--allow-http', 'plain HTTP also to registries on other hosts')
    .addHelpText('after', HELP)
    .action(async (source: string, destination: string, options: DecryptOptions, command: Command) => {
      await decrypt(context, command, source, destination, options);
    });
}

async function decrypt(
  context: CommandContext,
  command: Command,
  sourceText: string,
  destinationText: string,
  options: DecryptOptions,
): Promise<void> {
  const output = outputOf(context, command);
  const { signal } = context;
  const { hasProviderConfig } = await import('../key-providers.ts');
  if (options.key.length === 0 && !hasProviderConfig(context)) {
    throw new LatchkeyError('USAGE_INVALID', 'a key is needed to decrypt', {
      hint: 'give the private key of a recipient with --key FILE, or name key providers with OCICRYPT_KEYPROVIDER_CONFIG',
    });
  }
  const [{ readImageGraph }, { decryptImage }, { writeImage }, { copyBlobs }, { readDecryptionKeys }] =
    await Promise.all([
      import('#src/image/image-graph.ts'),
      import('#src/image/decrypt.ts'),
      import('#src/image/rewrite.ts'),
      import('#src/store/copy.ts'),
      import('../decryption-keys.ts'),
    ]);
  const source = await openImage(context, sourceText, options.allowHttp);
  const destination = await openImage(context, destinationText, options.allowHttp);
  requireWritable(destination, destinationText);
  const { store } = destination;
  const { staging } = store;
  if (staging === undefined) {
    throw new LatchkeyError('USAGE_INVALID', 'a decrypted image goes to an image layout, not to a registry', {
      hint: 'write oci:DIRECTORY:TAG; pushing it from there is a decision of its own',
    });
  }
  const unwrappers = await readDecryptionKeys(context, output, options.key);
  const image = await readImageGraph(source.store, source.reference, { signal });
  const { graph, notes } = await withAttestations(image, unwrappers, signal);
  notes.forEach((note) => output.note(`note: ${note}`));
  const progress = createProgress(context, output);
  try {
    const decrypted = await decryptImage({
      source: source.store,
      graph,
      destination: Object.assign(store, { staging }),
      unwrappers,
      signal,
      onBytes: (deltaBytes) => progress.advance(deltaBytes),
      onLayers: (count, totalBytes) =>
        progress.start(`decrypting ${count === 1 ? 'one layer' : `${count} layers`}`, totalBytes),
      onLayersDone: () => progress.finish(),
    });
    await copyBlobs(source.store, store, decrypted.keptLayers, { signal });
    await writeImage(store, decrypted, destination.tag, { signal });
    await destination.finish(signal);
    const { digest } = decrypted.root.descriptor;
    output.result({ destination: destinationText, digest }, () =>
      formatFields([
        ['decrypted', destinationText],
        ['digest', digest],
      ]),
    );
  } catch (error) {
    progress.clear();
    await destination.discard();
    throw error;
  }
}

/** Attestations that were encrypted with the image and are attached to it come back too. */
async function withAttestations(
  image: ImageGraph,
  unwrappers: readonly KeyUnwrapper[],
  signal: AbortSignal,
): Promise<{ graph: ImageGraph; notes: readonly string[] }> {
  const { leftBehindNotes, openableAttestations, readAttachedArtifacts, withAttached } =
    await import('#src/image/attached-artifacts.ts');
  try {
    const { attestations, others } = await readAttachedArtifacts(image, { signal });
    const openable = await openableAttestations(attestations, unwrappers);
    const left = attestations
      .filter((node) => !openable.includes(node))
      .map(({ manifest }) => ({ artifactType: manifest.artifactType }));
    return { graph: withAttached(image, openable), notes: leftBehindNotes([...others, ...left]) };
  } catch (error) {
    const { code, message } = toLatchkeyError(error);
    if (code === 'INTERRUPTED') throw error;
    return { graph: image, notes: [`what is attached to the image cannot be listed: ${message}`] };
  }
}

function append(value: string, before: readonly string[]): readonly string[] {
  return [...before, value];
}
