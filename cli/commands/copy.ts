/** `latchkey copy`: an image as it is, plain or encrypted, from one place to another. */
import type { Command } from 'commander';
import type { Digest } from '#src/oci/digest.ts';
import type { CopyEvent } from '#src/store/copy.ts';
import type { CommandContext } from '../context.ts';
import { LOCATION_HELP, openImage, requireWritable } from '../image-location.ts';
import { formatBytes, formatFields, outputOf } from '../output.ts';
import { createProgress } from '../progress.ts';

interface CopySummary {
  readonly destination: string;
  readonly digest: Digest;
  /** Manifests of platforms, artifacts and indexes. */
  readonly manifests: number;
  readonly referrers: readonly Digest[];
  readonly blobs: Readonly<Record<'copied' | 'skipped' | 'mounted' | 'foreign', number>>;
  readonly copiedBytes: number;
}

export function registerCopy(program: Command, context: CommandContext): void {
  program
    .command('copy')
    .description('copy an image with all its platforms, signatures and its statement')
    .argument('<source>', LOCATION_HELP)
    .argument('<destination>', 'where the copy goes, written the same way')
    .option('--allow-http', 'plain HTTP also to registries on other hosts')
    .addHelpText(
      'after',
      `
Examples:
  latchkey copy docker://registry.acme.example/web:2.0 oci-archive:web-2.0.tar:2.0
  latchkey copy oci-archive:web-2.0.tar docker://registry.customer.example/acme/web:2.0
  latchkey copy docker://registry.acme.example/web:2.0 oci-archive:- | ssh site 'cat > web.tar'`,
    )
    .action(
      async (source: string, destination: string, options: { allowHttp?: boolean }, command: Command) => {
        await copy(context, command, source, destination, options.allowHttp);
      },
    );
}

async function copy(
  context: CommandContext,
  command: Command,
  sourceText: string,
  destinationText: string,
  allowHttp: boolean | undefined,
): Promise<void> {
  const output = outputOf(context, command);
  const { signal } = context;
  const [{ copyImage }, { copyReferrers }] = await Promise.all([
    import('#src/store/copy.ts'),
    import('#src/store/copy-referrers.ts'),
  ]);
  const source = await openImage(context, sourceText, allowHttp);
  const destination = await openImage(context, destinationText, allowHttp);
  requireWritable(destination, destinationText);
  const progress = createProgress(context, output);
  const blobs = { copied: 0, skipped: 0, mounted: 0, foreign: 0 };
  const manifests: Digest[] = [];
  let copiedBytes = 0;
  const onBytes = (deltaBytes: number): void => {
    copiedBytes += deltaBytes;
    progress.advance(deltaBytes);
  };
  const onEvent = ({ kind, descriptor }: CopyEvent): void => {
    if (kind === 'manifest') manifests.push(descriptor.digest);
    else blobs[kind] += 1;
  };
  try {
    progress.start('copying', 0);
    const { reference } = source;
    const { digest } = await copyImage(source.store, destination.store, {
      ...{ reference, tag: destination.tag, signal, onBytes, onEvent },
    });
    const copied = [...manifests];
    const referrers = await copyReferrers(source.store, destination.store, copied, {
      signal,
      onBytes,
      onEvent,
    });
    await destination.finish(signal);
    progress.finish();
    const summary = {
      destination: destinationText,
      digest,
      manifests: copied.length,
      referrers,
      blobs,
      copiedBytes,
    };
    output.result(summary, () => summaryText(summary));
  } catch (error) {
    progress.clear();
    await destination.discard();
    throw error;
  } finally {
    await source.discard();
  }
}

function summaryText({ destination, digest, manifests, referrers, blobs, copiedBytes }: CopySummary): string {
  const parts = [
    `${blobs.copied} copied (${formatBytes(copiedBytes)})`,
    blobs.skipped === 0 ? [] : `${blobs.skipped} there already`,
    blobs.mounted === 0 ? [] : `${blobs.mounted} taken over inside the registry`,
    blobs.foreign === 0 ? [] : `${blobs.foreign} left where their URLs point`,
  ];
  return formatFields([
    ['copied', destination],
    ['digest', digest],
    ['manifests', String(manifests)],
    ['referrers', String(referrers.length)],
    ['blobs', parts.flat().join(', ')],
  ]);
}
