/** Puts layers together to an image and stores it. */
import { arch } from 'node:process';
import type { Descriptor } from '#src/oci/descriptor.ts';
import { digestOf } from '#src/oci/digest.ts';
import type { BlobDestination } from '#src/store/blob-store.ts';
import type { BuiltLayer } from './layer-archive.ts';

const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json';
const CONFIG_TYPE = 'application/vnd.oci.image.config.v1+json';

export interface ImageSpecification {
  readonly layers: readonly BuiltLayer[];
  readonly command: readonly string[];
  readonly labels?: Readonly<Record<string, string>>;
  /** Default: this machine's. */
  readonly architecture?: string;
}

/** The architecture of this machine, in OCI's words. */
export function machineArchitecture(): string {
  return arch === 'x64' ? 'amd64' : arch;
}

/** Writes an image and points a tag at it; gives the manifest's descriptor. */
export async function writeImage(
  destination: BlobDestination,
  tag: string,
  specification: ImageSpecification,
): Promise<Descriptor> {
  const config = Buffer.from(
    JSON.stringify({
      architecture: specification.architecture ?? machineArchitecture(),
      os: 'linux',
      config: {
        Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
        Cmd: specification.command,
        Labels: specification.labels ?? {},
      },
      rootfs: { type: 'layers', diff_ids: specification.layers.map(({ diffId }) => diffId) },
      history: specification.layers.map(() => ({ created_by: 'latchkey lab' })),
    }),
  );
  const configDescriptor = await writeBytes(destination, CONFIG_TYPE, config);
  const layers: Descriptor[] = [];
  for (const layer of specification.layers) {
    layers.push(await writeBytes(destination, layer.mediaType, layer.bytes));
  }
  const bytes = Buffer.from(
    JSON.stringify({ schemaVersion: 2, mediaType: MANIFEST_TYPE, config: configDescriptor, layers }),
  );
  const descriptor = { mediaType: MANIFEST_TYPE, digest: digestOf(bytes), size: bytes.length };
  await destination.writeManifest({ descriptor, bytes }, tag);
  return descriptor;
}

async function writeBytes(
  destination: BlobDestination,
  mediaType: string,
  bytes: Buffer,
): Promise<Descriptor> {
  const descriptor = { mediaType, digest: digestOf(bytes), size: bytes.length };
  if (!(await destination.hasBlob(descriptor))) {
    await destination.writeBlob(descriptor, async function* () {
      yield bytes;
    });
  }
  return descriptor;
}
