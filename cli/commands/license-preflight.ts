/** `latchkey license preflight`: would this node be allowed to start this image? */
import type { Command } from 'commander';
import { LatchkeyError, isErrorCode } from '#src/base/errors.ts';
import type { Preflight } from '#src/wire/admin/preflight.ts';
import { adminClientOf, withAdminOptions } from '../admin-options.ts';
import type { CommandContext } from '../context.ts';
import { imageDigestOf } from '../image-digest.ts';
import { LOCATION_HELP } from '../image-location.ts';
import { idParser } from '../name-arguments.ts';
import { formatFields, outputOf } from '../output.ts';

interface PreflightOptions {
  readonly node: string;
  readonly allowHttp?: boolean;
}

export function registerLicensePreflight(license: Command, context: CommandContext): void {
  withAdminOptions(license.command('preflight'))
    .description('say whether a node may start an image now, and if not, why; changes nothing')
    .argument('<image>', `sha256:DIGEST, ${LOCATION_HELP}`)
    .requiredOption('--node <id>', 'the node', idParser('node', 'latchkey node list'))
    .option('--allow-http', 'plain HTTP also to registries on other hosts')
    .addHelpText(
      'after',
      `
It ends with 0 when the start would be allowed, and with 77 and the reason when it would be refused.

Example:
  latchkey license preflight registry.acme.example/web:2.0 --node node_0191b2f0-...`,
    )
    .action(async (image: string, options: PreflightOptions, command: Command) => {
      const client = await adminClientOf(context, command);
      const imageDigest = await imageDigestOf(context, image, options.allowHttp);
      const answer = await client.preflight({ nodeId: options.node, imageDigest });
      if (!answer.allowed) throw denialOf(answer);
      outputOf(context, command).result(answer, () => allowedText(answer));
    });
}

function allowedText({ nodeId, imageDigest, licenseId, version }: Preflight): string {
  return formatFields([
    ['allowed', imageDigest],
    ['version', version ?? undefined],
    ['node', nodeId],
    ['license', licenseId ?? undefined],
  ]);
}

function denialOf({ code, message, hint, licenseId, contact }: Preflight): LatchkeyError {
  return new LatchkeyError(isErrorCode(code) ? code : 'BUG_UNEXPECTED', message ?? 'refused', {
    hint: hint ?? undefined,
    licenseId: licenseId ?? undefined,
    contact: contact ?? undefined,
  });
}
