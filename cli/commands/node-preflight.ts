/** `latchkey node preflight`: may this machine start this image? Asked before it is pulled. */
import type { Command } from 'commander';
import type { CommandContext } from '../context.ts';
import { imageDigestOf } from '../image-digest.ts';
import { LOCATION_HELP } from '../image-location.ts';
import { formatFields, outputOf } from '../output.ts';
import { type SocketOptions, withAgent, withSocket } from './agent-socket.ts';

interface PreflightOptions extends SocketOptions {
  readonly allowHttp?: boolean;
}

export function registerNodePreflight(node: Command, context: CommandContext): void {
  withSocket(node.command('preflight'), context)
    .description('say whether this machine may start an image, before it is pulled; takes no lease')
    .argument('<image>', `sha256:DIGEST, ${LOCATION_HELP}`)
    .option('--allow-http', 'plain HTTP also to registries on other hosts')
    .addHelpText(
      'after',
      `
It ends with 0 when the start would be allowed, and with 77 and the reason when it would be refused.

Example:
  latchkey node preflight registry.acme.example/web:2.0`,
    )
    .action(async (image: string, options: PreflightOptions, command: Command) => {
      const imageDigest = await imageDigestOf(context, image, options.allowHttp);
      const { nodeId, licenseId, productCode, version } = await withAgent(options, (agent) =>
        agent.preflight(imageDigest),
      );
      const answer = { allowed: true, imageDigest, version, nodeId, licenseId, productCode };
      outputOf(context, command).result(answer, () =>
        formatFields([
          ['allowed', imageDigest],
          ['version', version],
          ['node', nodeId],
          ['license', `${licenseId} for product ${productCode}`],
        ]),
      );
    });
}
