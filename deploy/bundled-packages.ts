/** Which npm packages are really in a bundle: by the files that the bundler read, with what the lock file says of each. */
import * as z from 'zod';

export const lockSchema = z.object({
  packages: z.record(
    z.string(),
    z.looseObject({
      version: z.string().optional(),
      license: z.string().optional(),
      integrity: z.string().optional(),
    }),
  ),
});

/** What is read of package-lock.json (version 3): packages by their path from the project's root. */
export type PackageLock = z.infer<typeof lockSchema>;

export interface BundledPackage {
  readonly name: string;
  readonly version: string;
  /** SPDX identifier or expression. */
  readonly license: string;
  /** As npm writes it: `sha512-` and base64. */
  readonly integrity: string;
  /** Path from the project's root. */
  readonly directory: string;
}

/**
 * The packages of a bundle's files, sorted by path.
 * @param inputs paths from the project's root
 * @throws TypeError for a package that the lock file does not fully describe
 */
export function bundledPackages(inputs: readonly string[], lock: PackageLock): BundledPackage[] {
  const directories = new Set(inputs.flatMap((path) => packageDirectory(path) ?? []));
  return [...directories].sort().map((directory) => describePackage(directory, lock));
}

/** What the lock file says of a package. @throws TypeError when that is not everything */
export function describePackage(directory: string, lock: PackageLock): BundledPackage {
  const { version, license, integrity } = lock.packages[directory] ?? {};
  if (version === undefined || license === undefined || integrity === undefined) {
    throw new TypeError(`package-lock.json has no version, license or integrity of ${directory}`);
  }
  const name = directory.slice(directory.lastIndexOf('node_modules/') + 'node_modules/'.length);
  return { name, version, license, integrity, directory };
}

function packageDirectory(path: string): string | undefined {
  return /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(path)?.[0];
}
