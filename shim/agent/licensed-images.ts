/**
 * Under which license each image was allowed last, and what that license says about running containers. Leases are in
 * memory only, so after a restart this is how a refused license is known to concern what still runs. It holds no key.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import * as z from 'zod';
import { parseJson } from '#src/base/json.ts';
import type { LeaseClaims } from '#src/licensing/lease-claims.ts';
import { ON_REVOKE } from '#src/licensing/license-state.ts';
import { isDigest } from '#src/oci/digest.ts';
import { type LeaseSubject, subjectKey } from './lease.ts';

const PRIVATE_FILE_MODE = 0o600;

const imageSchema = z.object({
  imageDigest: z.string().refine(isDigest),
  imageKeyId: z.string(),
  licenseId: z.string(),
  epoch: z.int(),
  onRevoke: z.enum(ON_REVOKE),
});
const fileSchema = z.object({ images: z.array(imageSchema) });

export type LicensedImage = z.infer<typeof imageSchema>;

export class LicensedImages {
  readonly #path: string;
  #images: ReadonlyMap<string, LicensedImage>;

  /** Reads what an earlier run wrote; a file that cannot be read is as good as none, since the key server knows. */
  constructor(path: string) {
    this.#path = path;
    this.#images = new Map(readImages(path).map((image) => [subjectKey(image), image]));
  }

  of(subject: LeaseSubject): LicensedImage | undefined {
    return this.#images.get(subjectKey(subject));
  }

  ofLicense(licenseId: string): LicensedImage[] {
    return [...this.#images.values()].filter((image) => image.licenseId === licenseId);
  }

  /** Written before the start that it is about goes on. */
  record({ imageDigest, imageKeyId, licenseId, epoch, onRevoke }: LeaseClaims): void {
    const image = { imageDigest, imageKeyId, licenseId, epoch, onRevoke };
    const known = this.of(image);
    if (known?.licenseId === licenseId && known.epoch === epoch && known.onRevoke === onRevoke) return;
    this.#save(new Map(this.#images).set(subjectKey(image), image));
  }

  /** Forgets the images that nothing on this node stands on any more. */
  retain(isNeeded: (image: LicensedImage) => boolean): void {
    const kept = [...this.#images].filter(([, image]) => isNeeded(image));
    if (kept.length < this.#images.size) this.#save(new Map(kept));
  }

  #save(images: ReadonlyMap<string, LicensedImage>): void {
    const temporary = `${this.#path}.new`;
    const text = `${JSON.stringify({ images: [...images.values()] })}\n`;
    writeFileSync(temporary, text, { mode: PRIVATE_FILE_MODE });
    renameSync(temporary, this.#path);
    this.#images = images;
  }
}

function readImages(path: string): LicensedImage[] {
  try {
    const file = fileSchema.safeParse(parseJson(readFileSync(path), 'the list of licensed images'));
    return file.success ? file.data.images : [];
  } catch {
    return [];
  }
}
