/** `latchkey decrypt`: from an encrypted image to a plain one, with a recipient's private key. */
import type { Command } from 'commander';
import { LatchkeyError } from '#src/base/errors.ts';
import type { CommandContext } from '../context.ts';
import { LOCATION_HELP, openImage, requireWritable } from '../image-location.ts';
import { formatFields, outputOf } from '../output.ts';
import { createProgress } from '../progress.ts';

interface DecryptOptions {
  readonly key: string;
  readonly allowHttp?: boolean;
}

export function registerDecrypt(program: Command, context: CommandContext): void {
  program
    .command('decrypt')
    .description('decrypt an image with the private key of one of its recipients')
    .argument('<source>', LOCATION_HELP)
    .argument('<destination>', 'an image layout for the plain image: oci:DIRECTORY[:TAG]')
    .requiredOption('--key <file>', 'private key (PEM, DER or JWK)')
    .option('--allow-http', 'plain HTTP also to registries on other hosts')
    .addHelpText(
      'after',
      '\nExample:\n  latchkey decrypt --key customer.pem docker://registry.acme.example/web:2.0 oci:plain:web',
    )
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
  const [{ readImageGraph }, { decryptImage }, { writeImage }, { copyBlobs }, { createJweUnwrapper }] =
    await Promise.all([
      import('#src/image/image-graph.ts'),
      import('#src/image/decrypt.ts'),
      import('#src/image/rewrite.ts'),
      import('#src/store/copy.ts'),
      import('#src/keywrap/jwe.ts'),
    ]);
  const { readPrivateKey } = await import('../recipients.ts');
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
  const unwrappers = [createJweUnwrapper(await readPrivateKey(options.key))];
  const graph = await readImageGraph(source.store, source.reference, { signal });
  const progress = createProgress(context, output);
  try {
    const image = await decryptImage({
      source: source.store,
      graph,
      destination: Object.assign(store, { staging }),
      unwrappers,
      signal,
      onBytes: (deltaBytes) => progress.advance(deltaBytes),
      onLayer: ({ size }, number, total) => progress.start(`decrypting layer ${number} of ${total}`, size),
      onLayerDone: () => progress.finish(),
    });
    await copyBlobs(source.store, store, image.keptLayers, { signal });
    await writeImage(store, image, destination.tag, { signal });
    const { digest } = image.root.descriptor;
    output.result({ destination: destinationText, digest }, () =>
      formatFields([
        ['decrypted', destinationText],
        ['digest', digest],
      ]),
    );
  } catch (error) {
    progress.clear();
    throw error;
  }
}
