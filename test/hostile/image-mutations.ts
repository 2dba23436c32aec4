/** What an attacker who may write to the registry does to an encrypted image; he sets the digests right afterwards. */
import { randomBytes } from 'node:crypto';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { LAYER_CIPHER } from '#src/crypto/layer-options.ts';
import { JWE_ANNOTATION } from '#src/keywrap/jwe.ts';
import { PUBLIC_OPTIONS_ANNOTATION } from '#src/keywrap/key-wrapper.ts';
import { LATCHKEY_ANNOTATION } from '#src/keywrap/latchkey-element.ts';
import { digestOf, type Digest } from '#src/oci/digest.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import type { EncryptedFixture } from './encrypted-fixture.ts';
import { hostileString } from './hostile-values.ts';
import { type LooseDescriptor, type OpenedImage, openFixture, ownLayer, storeBlob } from './opened-image.ts';

const KEY_ANNOTATIONS = [JWE_ANNOTATION, LATCHKEY_ANNOTATION];
const LAYER_TYPES = [
  MEDIA_TYPE.ociLayer,
  MEDIA_TYPE.ociLayerGzip,
  MEDIA_TYPE.ociLayerZstd,
  MEDIA_TYPE.dockerLayerGzip,
  'application/vnd.wasm.content.layer.v1+wasm',
  'application/x-model',
];

const KINDS = [
  ...[
    'flip ciphertext',
    'cut ciphertext',
    'extend ciphertext',
    'replace ciphertext',
    'plaintext as ciphertext',
  ],
  ...[
    'swap layers',
    'swap layers and diff IDs',
    'swap blobs',
    'swap annotations',
    'swap keys',
    'swap options',
  ],
  ...['drop layer', 'repeat layer', 'splice layer', 'splice keys', 'splice blob', 'own layer'],
  ...['drop suffix', 'double suffix', 'change type', 'add suffix'],
  ...['public nonce', 'cut public nonce', 'other cipher', 'other MAC', 'cipher options in another case'],
  ...[
    'damage element',
    'append element',
    'prepend element',
    'drop keys',
    'garbage annotation',
    'inline data',
  ],
  ...['swap diff IDs', 'other diff ID', 'drop diff ID', 'foreign config', 'other command', 'swap configs'],
  ...['swap platforms', 'repeat platform', 'annotate'],
] as const;

export interface ImageMutation {
  readonly kind: (typeof KINDS)[number];
  readonly image: number;
  readonly layer: number;
  readonly other: number;
  readonly at: number;
  readonly text: string;
}

export const imageMutations: fc.Arbitrary<ImageMutation[]> = fc.array(
  fc.record({
    kind: fc.constantFrom(...KINDS),
    image: fc.nat(1),
    layer: fc.nat(9),
    other: fc.nat(9),
    at: fc.nat(),
    text: hostileString,
  }),
  { minLength: 1, maxLength: 3 },
);

/** Does it; what does not fit the image is left alone. */
export async function mutateImage(
  opened: OpenedImage,
  mutation: ImageMutation,
  victim: EncryptedFixture,
  foreign: EncryptedFixture,
): Promise<void> {
  const { kind, at, text } = mutation;
  const image = opened.images[mutation.image % opened.images.length]!;
  const { layers } = image.manifest;
  const diffIds = image.config.rootfs.diff_ids;
  if (layers.length === 0) return;
  const [here, there] = [mutation.layer % layers.length, mutation.other % layers.length];
  const layer = layers[here]!;
  const other = layers[there]!;
  const theirs = openFixture(foreign);
  const their = theirs.images[mutation.image % theirs.images.length]!;
  const spliced = their.manifest.layers[mutation.other % their.manifest.layers.length]!;
  const bytes = Buffer.from(opened.blobs.get(layer.digest as Digest) ?? randomBytes(64));
  for (const [digest, blob] of foreign.blobs) opened.blobs.set(digest, blob);
  switch (kind) {
    case 'flip ciphertext':
      bytes[at % bytes.length]! ^= 1 << (at % 8);
      storeBlob(opened, layer, bytes);
      return;
    case 'cut ciphertext':
      storeBlob(opened, layer, bytes.subarray(0, at % bytes.length));
      return;
    case 'extend ciphertext':
      storeBlob(opened, layer, Buffer.concat([bytes, Buffer.from(text)]));
      return;
    case 'replace ciphertext':
      storeBlob(opened, layer, randomBytes(bytes.length));
      return;
    case 'plaintext as ciphertext':
      storeBlob(opened, layer, victim.plainLayers.get(diffIds[here] as Digest) ?? bytes);
      return;
    case 'swap layers':
      layers[here] = other;
      layers[there] = layer;
      return;
    case 'swap layers and diff IDs':
      [layers[here], layers[there]] = [other, layer];
      [diffIds[here], diffIds[there]] = [diffIds[there]!, diffIds[here]!];
      return;
    case 'swap blobs':
      [layer.digest, other.digest] = [other.digest, layer.digest];
      [layer.size, other.size] = [other.size, layer.size];
      return;
    case 'swap annotations':
      [layer.annotations, other.annotations] = [other.annotations ?? {}, layer.annotations ?? {}];
      return;
    case 'swap keys':
      copyAnnotations(other, layer, KEY_ANNOTATIONS);
      return;
    case 'swap options':
      copyAnnotations(other, layer, [PUBLIC_OPTIONS_ANNOTATION]);
      return;
    case 'drop layer':
      layers.splice(here, 1);
      if (at % 2 === 0) diffIds.splice(here, 1);
      return;
    case 'repeat layer':
      layers.splice(there, 0, structuredClone(layer));
      if (at % 2 === 0) diffIds.splice(there, 0, diffIds[here]!);
      return;
    case 'splice layer':
      layers[here] = spliced;
      return;
    case 'splice keys':
      copyAnnotations(spliced, layer, KEY_ANNOTATIONS);
      return;
    case 'splice blob':
      Object.assign(layer, { digest: spliced.digest, size: spliced.size });
      return;
    case 'own layer': {
      const plain = packed(Buffer.from(`evil ${text}`), layer.mediaType);
      const { ciphertext, annotations } = await ownLayer(victim.publicKey, plain, {
        plainDigest: at % 2 === 0 ? undefined : (diffIds[here] as Digest),
      });
      layer.annotations = annotations;
      storeBlob(opened, layer, ciphertext);
      return;
    }
    case 'drop suffix':
      layer.mediaType = layer.mediaType.replace('+encrypted', '');
      return;
    case 'double suffix':
    case 'add suffix':
      layer.mediaType = `${layer.mediaType}+encrypted`;
      return;
    case 'change type':
      layer.mediaType = `${LAYER_TYPES[at % LAYER_TYPES.length]!}+encrypted`;
      return;
    case 'public nonce':
      changeOptions(layer, (options) => (options['cipheroptions'] = { nonce: base64(16) }));
      return;
    case 'cut public nonce':
      changeOptions(layer, (options) => (options['cipheroptions'] = { nonce: base64(4) }));
      return;
    case 'other cipher':
      changeOptions(layer, (options) => (options['cipher'] = `${LAYER_CIPHER}${text}`));
      return;
    case 'other MAC':
      changeOptions(layer, (options) => (options['hmac'] = base64(32)));
      return;
    case 'cipher options in another case':
      changeOptions(layer, (options) => (options['CipherOptions'] = { nonce: base64(16) }));
      return;
    case 'damage element':
      changeAnnotation(layer, KEY_ANNOTATIONS[at % 2]!, (list) => {
        const element = Buffer.from(list.split(',')[0] ?? '', 'base64');
        if (element.length > 0) element[at % element.length]! ^= 1 << (at % 7);
        return element.toString('base64');
      });
      return;
    case 'append element':
    case 'prepend element':
      changeAnnotation(layer, KEY_ANNOTATIONS[at % 2]!, (list) => {
        const more = (at % 3 === 0 ? other : spliced).annotations?.[KEY_ANNOTATIONS[at % 2]!] ?? '';
        return (kind === 'append element' ? [list, more] : [more, list]).join(',');
      });
      return;
    case 'drop keys':
      changeAnnotation(layer, KEY_ANNOTATIONS[at % 2]!, () => undefined);
      return;
    case 'garbage annotation':
      changeAnnotation(layer, [...KEY_ANNOTATIONS, PUBLIC_OPTIONS_ANNOTATION][at % 3]!, () => text);
      return;
    case 'inline data':
      layer.data = Buffer.from(text).toString('base64');
      return;
    case 'swap diff IDs':
      [diffIds[here], diffIds[there]] = [diffIds[there]!, diffIds[here]!];
      return;
    case 'other diff ID':
      diffIds[here] = their.config.rootfs.diff_ids[there] ?? digestOf(text);
      return;
    case 'drop diff ID':
      diffIds.splice(here, 1);
      return;
    case 'foreign config':
      image.config = their.config;
      return;
    case 'other command':
      image.config['config'] = { Entrypoint: ['/bin/sh', '-c', text] };
      return;
    case 'swap configs': {
      const second = opened.images.at(-1)!;
      [image.config, second.config] = [second.config, image.config];
      return;
    }
    case 'swap platforms': {
      const [first, last] = [opened.index?.manifests[0], opened.index?.manifests.at(-1)];
      if (first && last) [first.platform, last.platform] = [last.platform, first.platform];
      return;
    }
    case 'repeat platform':
      opened.images[0] = structuredClone(opened.images.at(-1)!);
      return;
    case 'annotate':
      image.manifest.annotations = { [text]: text };
  }
}

function base64(sizeBytes: number): string {
  return randomBytes(sizeBytes).toString('base64');
}

function packed(tar: Buffer, mediaType: string): Buffer {
  if (mediaType.includes('gzip')) return gzipSync(tar);
  return mediaType.includes('zstd') ? zstdCompressSync(tar) : tar;
}

function copyAnnotations(from: LooseDescriptor, to: LooseDescriptor, names: readonly string[]): void {
  for (const name of names) changeAnnotation(to, name, () => from.annotations?.[name]);
}

function changeAnnotation(
  layer: LooseDescriptor,
  name: string,
  change: (value: string) => string | undefined,
): void {
  const annotations = { ...layer.annotations };
  const changed = change(annotations[name] ?? '');
  if (changed === undefined) Reflect.deleteProperty(annotations, name);
  else annotations[name] = changed;
  layer.annotations = annotations;
}

function changeOptions(layer: LooseDescriptor, change: (options: Record<string, unknown>) => unknown): void {
  changeAnnotation(layer, PUBLIC_OPTIONS_ANNOTATION, (value) => {
    const text = Buffer.from(value, 'base64').toString();
    // A change before this one may have left no options.
    if (!text.startsWith('{"cipher"')) return value;
    const options = JSON.parse(text) as Record<string, unknown>;
    change(options);
    return Buffer.from(JSON.stringify(options)).toString('base64');
  });
}
