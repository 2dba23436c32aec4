/** A store of which something is different: it fails, or says what is not so. */
import type { BlobStore } from '#src/store/blob-store.ts';

/** The store without its staging, with some of its methods replaced. */
export function alteredStore(store: BlobStore, changes: Partial<BlobStore>): BlobStore {
  return {
    location: store.location,
    readManifest: (...args) => store.readManifest(...args),
    openBlob: (...args) => store.openBlob(...args),
    listReferrers: (...args) => store.listReferrers(...args),
    hasBlob: (...args) => store.hasBlob(...args),
    writeBlob: (...args) => store.writeBlob(...args),
    writeManifest: (...args) => store.writeManifest(...args),
    ...changes,
  };
}
