/**
 * Memory that begins at a page, as direct input and output wants it (open(2), O_DIRECT). Of what JavaScript can
 * allocate, only the memory of WebAssembly is laid out that way.
 */

/** The part of the global that is used; TypeScript declares it for browsers only. */
declare const WebAssembly: {
  readonly Memory: new (descriptor: {
    readonly initial: number;
    readonly maximum: number;
    readonly shared: boolean;
  }) => { readonly buffer: ArrayBuffer | SharedArrayBuffer };
};

const WASM_PAGE_BYTES = 64 * 1024;

/** Gives chunks one after another in one such memory; in ordinary memory where it cannot be had. */
export function allocateAligned(chunkBytes: number, count: number): Uint8Array[] {
  return chunksOf(allocate(chunkBytes * count, false) ?? new ArrayBuffer(chunkBytes * count), chunkBytes);
}

/** The same for memory that threads share. */
export function allocateAlignedShared(sizeBytes: number): SharedArrayBuffer {
  const buffer = allocate(sizeBytes, true);
  return buffer instanceof SharedArrayBuffer ? buffer : new SharedArrayBuffer(sizeBytes);
}

/** Cuts memory into chunks. */
export function chunksOf(memory: ArrayBuffer | SharedArrayBuffer, chunkBytes: number): Uint8Array[] {
  const count = Math.floor(memory.byteLength / chunkBytes);
  return Array.from({ length: count }, (_, index) => new Uint8Array(memory, index * chunkBytes, chunkBytes));
}

function allocate(sizeBytes: number, isShared: boolean): ArrayBuffer | SharedArrayBuffer | undefined {
  const pages = Math.ceil(sizeBytes / WASM_PAGE_BYTES);
  try {
    return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: isShared }).buffer;
  } catch {
    // It reserves gigabytes of addresses, which a limit on them (ulimit -v) forbids.
    return undefined;
  }
}
