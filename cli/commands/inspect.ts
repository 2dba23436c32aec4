/** `latchkey inspect`: what an image shows to anybody who can pull it. */
import type { Command } from 'commander';
import type { ImageInspection, LayerInspection, PlatformInspection } from '#src/image/inspect.ts';
import type { CommandContext, TextSink } from '../context.ts';
import { LOCATION_HELP, openImage } from '../image-location.ts';
import { formatBytes, formatFields, formatTable, outputOf, styled } from '../output.ts';

export function registerInspect(program: Command, context: CommandContext): void {
  program
    .command('inspect')
    .description('show platforms and layers of an image: what is encrypted, for whom, and what is visible')
    .argument('<image>', LOCATION_HELP)
    .option('--allow-http', 'plain HTTP also to registries on other hosts')
    .addHelpText('after', '\nExample:\n  latchkey inspect docker://registry.acme.example/web:2.0')
    .action(async (image: string, options: { allowHttp?: boolean }, command: Command) => {
      const [{ readImageGraph }, { inspectImage }] = await Promise.all([
        import('#src/image/image-graph.ts'),
        import('#src/image/inspect.ts'),
      ]);
      const { store, reference } = await openImage(context, image, options.allowHttp);
      const graph = await readImageGraph(store, reference, { signal: context.signal });
      const inspection = inspectImage(graph);
      outputOf(context, command).result(inspection, () => inspectionText(inspection, context.stdout));
    });
}

function inspectionText(inspection: ImageInspection, sink: TextSink): string {
  const head = formatFields([
    ['image', inspection.location],
    ['digest', inspection.digest],
    ['type', inspection.mediaType],
    ['attestations', inspection.artifacts.length === 0 ? undefined : String(inspection.artifacts.length)],
  ]);
  return [head, ...inspection.platforms.map((platform) => platformText(platform, sink))].join('\n');
}

function platformText(platform: PlatformInspection, sink: TextSink): string {
  const rows = platform.layers.map((layer) => [
    String(layer.position),
    formatBytes(layer.sizeBytes),
    layer.isEncrypted ? 'encrypted' : 'plain',
    recipientsText(layer),
    layer.digest,
  ]);
  const { env, entrypoint, cmd, labels, historyEntries } = platform.visible;
  const visible = formatFields([
    ['env', env.length === 0 ? undefined : env.map(printable).join(' ')],
    ['entrypoint', entrypoint.length === 0 ? undefined : entrypoint.map(printable).join(' ')],
    ['cmd', cmd.length === 0 ? undefined : cmd.map(printable).join(' ')],
    ['labels', Object.keys(labels).length === 0 ? undefined : String(Object.keys(labels).length)],
    ['history', historyEntries === 0 ? undefined : `${historyEntries} entries`],
  ]);
  const title = styled(sink, 'bold', printable(platform.platform));
  const shown =
    visible === ''
      ? ''
      : `visible to anybody, encrypted or not:\n${visible.replaceAll(/^/gm, '  ').trimEnd()}\n`;
  return `${title}  ${platform.digest}\n${formatTable(['LAYER', 'SIZE', 'STATE', 'FOR', 'DIGEST'], rows)}${shown}`;
}

function recipientsText(layer: LayerInspection): string {
  if (!layer.isEncrypted) return '-';
  if (layer.problem !== undefined) return `nobody: ${printable(layer.problem)}`;
  return layer.recipients
    .map(({ scheme, imageKeyId, organizationId, keys }) => {
      if (imageKeyId !== undefined) return printable(`licenses of ${organizationId ?? ''} (${imageKeyId})`);
      return keys === undefined || keys === 1 ? printable(scheme) : `${scheme} (${keys} keys)`;
    })
    .join(', ');
}

/** Images are written by strangers; what they say must not reach the terminal as control sequences. */
function printable(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, '?');
}
