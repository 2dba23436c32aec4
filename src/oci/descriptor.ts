/** Descriptors (OCI image spec, descriptor.md). */
import type { Digest } from './digest.ts';
import type { Platform } from './platform.ts';

export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly size: number;
  readonly annotations?: Readonly<Record<string, string>> | undefined;
  readonly platform?: Platform | undefined;
  readonly urls?: readonly string[] | undefined;
  readonly artifactType?: string | undefined;
  /** Base64 content, kept as it was. */
  readonly data?: string | undefined;
}
