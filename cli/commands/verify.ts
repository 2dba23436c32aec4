/** `latchkey verify`: is this image the one that its vendor released? Needs the vendor's public key and no server. */
import type { Command } from 'commander';
import { LatchkeyError } from '#src/base/errors.ts';
import type { VerifiedImage } from '#src/image/verify.ts';
import type { StatementImage } from '#src/image/statement.ts';
import { MAX_STATEMENT_ENVELOPE_BYTES } from '#src/base/limits.ts';
import { isDigest } from '#src/oci/digest.ts';
import type { CommandContext } from '../context.ts';
import { LOCATION_HELP, openImage } from '../image-location.ts';
import { append } from '../layer-options.ts';
import { formatFields, outputOf } from '../output.ts';
import { createProgress } from '../progress.ts';

interface VerifyOptions {
  readonly key: readonly string[];
  readonly statement?: string;
  readonly blobs?: boolean;
  readonly allowHttp?: boolean;
}

export function registerVerify(program: Command, context: CommandContext): void {
  program
    .command('verify')
    .description('check an image against the signed statement of its release')
    .argument('<image>', LOCATION_HELP)
    .option('--key <file>', 'public key of the vendor or its key server (PEM or JWK); repeatable', append, [])
    .option('--statement <file>', 'the signed statement, instead of the one attached to the image')
    .option('--blobs', 'read and hash every layer too')
    .option('--allow-http', 'plain HTTP also to registries on other hosts')
    .addHelpText(
      'after',
      `
Examples:
  latchkey verify --key acme.pub.pem docker://registry.acme.example/web:2.0
  latchkey verify --key acme.pub.pem --blobs oci:build:web`,
    )
    .action(async (image: string, options: VerifyOptions, command: Command) => {
      await verify(context, command, image, options);
    });
}

async function verify(
  context: CommandContext,
  command: Command,
  image: string,
  options: VerifyOptions,
): Promise<void> {
  const output = outputOf(context, command);
  if (options.key.length === 0) {
    throw new LatchkeyError('USAGE_INVALID', 'a public key is needed to verify', {
      hint: "give the vendor's with --key FILE; `latchkey organization release-key` prints the key server's",
    });
  }
  const [
    { readImageGraph },
    { verifyImage },
    { keyThumbprint },
    { readNamedFile },
    { readVerificationKeys },
  ] = await Promise.all([
    import('#src/image/image-graph.ts'),
    import('#src/image/verify.ts'),
    import('#src/crypto/signing-key.ts'),
    import('../key-source.ts'),
    import('../signing-keys.ts'),
  ]);
  const publicKeys = await readVerificationKeys(options.key);
  const envelope =
    options.statement === undefined
      ? undefined
      : await readNamedFile(options.statement, 'statement', MAX_STATEMENT_ENVELOPE_BYTES);
  const { signal } = context;
  const opened = await openImage(context, image, options.allowHttp);
  const progress = createProgress(context, output);
  try {
    const graph = await readImageGraph(opened.store, opened.reference, { signal });
    const verified = await verifyImage(graph, {
      publicKeys,
      envelope,
      isPinned: isDigest(opened.reference),
      readsBlobs: options.blobs === true,
      signal,
      onBlob: (sizeBytes, number, total) => progress.start(`reading layer ${number} of ${total}`, sizeBytes),
      onBytes: (deltaBytes) => progress.advance(deltaBytes),
    });
    progress.clear();
    const result = resultOf(image, graph.root.descriptor.digest, verified, keyThumbprint(verified.key));
    output.result(result, () => resultText(result, verified));
  } finally {
    progress.clear();
    await opened.discard();
  }
}

function resultOf(image: string, digest: string, verified: VerifiedImage, keyId: string) {
  const { statement, images, isWholeRelease, blobCount } = verified;
  const { productCode, organizationId, imageKeyId, sourceDigest } = statement;
  return {
    verified: true,
    image,
    digest,
    keyId,
    isWholeRelease,
    product: productCode,
    organizationId,
    imageKeyId,
    sourceDigest,
    platforms: images,
    layersRead: blobCount,
  };
}

function resultText(
  result: ReturnType<typeof resultOf>,
  { images, isWholeRelease, blobCount }: VerifiedImage,
): string {
  return formatFields([
    ['verified', result.image],
    ['digest', result.digest],
    ['signed by', result.keyId],
    ['product', result.product],
    ['image key', result.imageKeyId],
    ['source', result.sourceDigest],
    ...images.map((image) => ['platform', platformText(image)] as const),
    ['part', isWholeRelease ? undefined : 'one platform of the release; the others were not looked at'],
    [
      'layers',
      blobCount > 0
        ? `all ${blobCount} read`
        : 'compared by digest; --blobs reads and hashes their bytes too',
    ],
  ]);
}

function platformText({ platform, layers }: StatementImage): string {
  const name = [platform.os, platform.architecture, platform.variant].filter((part) => part !== undefined);
  const encrypted = layers.filter(({ isEncrypted }) => isEncrypted).length;
  return `${name.join('/')}: ${layers.length} layers, ${encrypted} of them encrypted`;
}
