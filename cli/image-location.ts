/** Opens the images that a command line names, with this user's registry credentials. */
import { homedir } from 'node:os';
import { join } from 'node:path';
import { LatchkeyError } from '#src/base/errors.ts';
import type { ImageLocation } from '#src/oci/location.ts';
import type { OpenedImage } from '#src/registry/open-location.ts';
import type { CommandContext } from './context.ts';

/** How locations are written, for the help of every command that takes one. */
export const LOCATION_HELP = 'docker://HOST/NAME:TAG (or just HOST/NAME:TAG), or oci:DIRECTORY[:TAG]';

export interface OpenedLocation extends OpenedImage {
  readonly location: ImageLocation;
}

/**
 * Opens a location; nothing is read or asked yet.
 * @param allowHttp true for plain HTTP also to hosts other than this one
 * @throws LatchkeyError INPUT_REFERENCE_INVALID
 */
export async function openImage(
  context: CommandContext,
  text: string,
  allowHttp: boolean | undefined,
): Promise<OpenedLocation> {
  const [{ parseLocation }, { openLocation }, { dockerCredentials }] = await Promise.all([
    import('#src/oci/location.ts'),
    import('#src/registry/open-location.ts'),
    import('#src/registry/credentials.ts'),
  ]);
  const location = parseLocation(text);
  const credentials = dockerCredentials(context.env);
  const options = allowHttp === true ? { credentials, allowHttp } : { credentials };
  return { ...openLocation(location, options), location };
}

/**
 * Refuses a destination that names a digest: what will be written has another one.
 * @throws LatchkeyError INPUT_REFERENCE_INVALID
 */
export function requireWritable(destination: OpenedLocation, text: string): void {
  const { location } = destination;
  const isPinned =
    location.kind === 'registry'
      ? location.reference.digest !== undefined
      : location.reference?.startsWith('sha256:') === true;
  if (!isPinned) return;
  throw new LatchkeyError('INPUT_REFERENCE_INVALID', `${text} names a digest, which cannot be written to`, {
    hint: 'name a tag as the destination',
  });
}

/** How the key server lists the image. */
export function repositoryName(location: ImageLocation): string {
  if (location.kind === 'layout') return `oci:${location.directory}`;
  return `${location.reference.registry}/${location.reference.repository}`;
}

/** Where ciphertext of unfinished pushes waits (XDG base directory specification). */
export function cacheDirectory(context: CommandContext): string {
  const base = context.env['XDG_CACHE_HOME'];
  return join(base !== undefined && base !== '' ? base : join(homedir(), '.cache'), 'latchkey');
}
