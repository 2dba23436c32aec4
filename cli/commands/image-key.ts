/** `latchkey image-key`: image keys for layers that skopeo, buildah or podman encrypt. */
import type { Command } from 'commander';
import { type AdminOptions, adminClientOf, withAdminOptions } from '../admin-options.ts';
import type { CommandContext } from '../context.ts';
import { formatFields, outputOf } from '../output.ts';

interface CreateOptions extends AdminOptions {
  readonly product: string;
  readonly out: string;
}

const HELP = `
The key opens every layer encrypted with it: keep the file out of images, caches and artifacts.

Example, with {"key-providers": {"latchkey": {"cmd": {"path": "latchkey", "args": ["keyprovider"]}}}}
in the file that OCICRYPT_KEYPROVIDER_CONFIG names:
  latchkey image-key create --product acme-web --out web.key
  skopeo copy --digestfile web.digest --encryption-key provider:latchkey:image-key=web.key \\
    docker://registry.acme.example/web:2.0-plain docker://registry.acme.example/web:2.0
  latchkey release register --image-key web.key docker://registry.acme.example/web:2.0@$(cat web.digest)`;

export function registerImageKey(program: Command, context: CommandContext): void {
  const imageKey = program
    .command('image-key')
    .description('image keys for encryption by other ocicrypt tools');
  withAdminOptions(imageKey.command('create'))
    .description('make the image key of one release, for skopeo, buildah or podman to encrypt with')
    .requiredOption('--product <code>', 'the product that the release is of')
    .requiredOption('--out <file>', 'new file for the key, readable by its owner alone')
    .addHelpText('after', HELP)
    .action(async (options: CreateOptions, command: Command) => {
      const [client, { createAdminRegistrar }, { generateImageKey }, { writeImageKeyFile }] =
        await Promise.all([
          adminClientOf(context, command),
          import('../admin-registrar.ts'),
          import('#src/image/registrar.ts'),
          import('../image-key-file.ts'),
        ]);
      const { product: productCode, out } = options;
      const key = await generateImageKey(await createAdminRegistrar(client, productCode).prepare());
      await writeImageKeyFile(out, { ...key, productCode });
      outputOf(context, command).result({ imageKeyId: key.imageKeyId, productCode, file: out }, () =>
        formatFields([
          ['image key', key.imageKeyId],
          ['file', `${out} (opens the image; 'latchkey release register' removes it)`],
          ['encrypt with', `--encryption-key provider:latchkey:image-key=${out}`],
        ]),
      );
    });
}
