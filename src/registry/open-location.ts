/** From where an image is, as a command takes it, to the store that holds it. */
import type { ImageLocation } from '#src/oci/location.ts';
import type { BlobStore } from '#src/store/blob-store.ts';
import { openLayout } from '#src/store/layout.ts';
import { openRegistry } from './registry-store.ts';
import type { RegistryOptions } from './repository.ts';

export interface OpenedImage {
  readonly store: BlobStore;
  /** Tag or digest to read; undefined for the only image of a layout. */
  readonly reference?: string | undefined;
  /** Tag to write; undefined when the location names none, or a digest. */
  readonly tag?: string | undefined;
}

/** Opens a location; nothing is read or asked yet. */
export function openLocation(location: ImageLocation, options: RegistryOptions = {}): OpenedImage {
  if (location.kind === 'registry') {
    const { tag, digest } = location.reference;
    return { store: openRegistry(location.reference, options), reference: digest ?? tag, tag };
  }
  const { directory, reference } = location;
  const tag = reference?.startsWith('sha256:') === true ? undefined : reference;
  return { store: openLayout(directory), reference, tag };
}
