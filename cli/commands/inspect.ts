/** `latchkey inspect`: what an image shows to anybody who can pull it. */
import type { Command } from 'commander';
import type { CommandContext } from '../context.ts';
import { LOCATION_HELP, openImage } from '../image-location.ts';
import { outputOf } from '../output.ts';

export function registerInspect(program: Command, context: CommandContext): void {
  program
    .command('inspect')
    .description('show platforms and layers of an image: what is encrypted, for whom, and what is visible')
    .argument('<image>', LOCATION_HELP)
    .option('--allow-http', 'plain HTTP also to registries on other hosts')
    .addHelpText('after', '\nExample:\n  latchkey inspect docker://registry.acme.example/web:2.0')
    .action(async (image: string, options: { allowHttp?: boolean }, command: Command) => {
      const [{ readImageGraph }, { inspectImage }, { inspectionText }] = await Promise.all([
        import('#src/image/image-graph.ts'),
        import('#src/image/inspect.ts'),
        import('../inspection-text.ts'),
      ]);
      const { store, reference } = await openImage(context, image, options.allowHttp);
      const graph = await readImageGraph(store, reference, { signal: context.signal });
      // As it was named, with its tag.
      const inspection = { ...(await inspectImage(graph, { signal: context.signal })), location: image };
      outputOf(context, command).result(inspection, () => inspectionText(inspection, context.stdout));
    });
}
