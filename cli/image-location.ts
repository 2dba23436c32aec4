/** Opens the images that a command line names, with this user's registry credentials. */
import { statSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { LatchkeyError } from '#src/base/errors.ts';
import type { Digest } from '#src/oci/digest.ts';
import type { ImageLocation } from '#src/oci/location.ts';
import type { OpenedImage } from '#src/registry/open-location.ts';
import type { StandardStreams } from '#src/store/archive-store.ts';
import { type CommandContext, childEnvironment } from './context.ts';

/** How locations are written, for the help of every command that takes one. */
export const LOCATION_HELP =
  'docker://HOST/NAME:TAG (or just HOST/NAME:TAG), oci:DIRECTORY[:TAG], oci-archive:FILE[:TAG] or docker-archive:FILE[:NAME]';

export interface OpenedLocation extends OpenedImage {
  readonly location: ImageLocation;
  /** Keeps results and errors out of standard output when the image will go there. */
  claimOutput(): void;
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
  const [{ parseLocation, STANDARD_STREAM }, { openLocation }, { storedCredentials }] = await Promise.all([
    import('#src/oci/location.ts'),
    import('#src/registry/open-location.ts'),
    import('#src/registry/credentials.ts'),
  ]);
  const location = parseLocation(text);
  const credentials = storedCredentials(childEnvironment(context));
  const archives = { temporaryDirectory: temporaryDirectory(context), streams: standardStreams(context) };
  const { hostLimit } = context;
  const options = { credentials, archives, hostLimit, ...(allowHttp === true ? { allowHttp } : {}) };
  const isPiped = location.kind === 'oci-archive' && location.file === STANDARD_STREAM;
  const claimOutput = (): void => {
    if (!isPiped) return;
    if (context.stdout.isTTY === true) {
      throw new LatchkeyError('USAGE_INVALID', 'an archive is not for a terminal', {
        hint: 'send standard output to a file or a program, or name a file in place of "-"',
      });
    }
    context.pipes?.claimOutput();
  };
  return { ...(await openLocation(location, options)), location, claimOutput };
}

/**
 * Refuses a destination that cannot be written: a digest, as what will be written has another one, and the format of
 * docker save. From here on standard output belongs to an archive that goes there.
 * @throws LatchkeyError INPUT_REFERENCE_INVALID, USAGE_INVALID for an archive that would go to a terminal
 */
export function requireWritable(destination: OpenedLocation, text: string): void {
  const { location } = destination;
  if (location.kind === 'docker-archive') {
    throw new LatchkeyError(
      'INPUT_REFERENCE_INVALID',
      `${text} cannot be written: docker archives are only read`,
      {
        hint: 'write oci-archive:FILE, which docker load, podman load and skopeo read too',
      },
    );
  }
  if (location.kind === 'oci-archive' && isDirectory(location.file)) {
    throw new LatchkeyError('INPUT_REFERENCE_INVALID', `${text} cannot be written: it is a directory`, {
      hint: 'name a file for the archive, or write oci:DIRECTORY for an image layout',
    });
  }
  const isPinned =
    location.kind === 'registry'
      ? location.reference.digest !== undefined
      : location.reference?.startsWith('sha256:') === true;
  if (isPinned) {
    throw new LatchkeyError('INPUT_REFERENCE_INVALID', `${text} names a digest, which cannot be written to`, {
      hint: 'name a tag as the destination',
    });
  }
  destination.claimOutput();
}

/** Said of what was made without anybody's signature. */
export const NOBODY_VERIFIES = 'nobody can verify this image; with --sign-key its statement would be signed';

/**
 * What is said when the old image stays where the new one was made.
 * @param state what it is still: `in plaintext`
 */
export function leftInPlaceNotes(
  source: { readonly location: string },
  destination: { readonly location: string },
  digest: Digest,
  state: string,
): string[] {
  const { location } = destination;
  if (source.location !== location) return [];
  return [
    `the image as it was is still in ${location}, ${state}: delete ${digest} there before you give it out`,
  ];
}

/** Large files are not for /tmp, which often is memory; the choice is skopeo's. */
function temporaryDirectory(context: CommandContext): string {
  const named = context.env['TMPDIR'];
  return named !== undefined && named !== '' ? named : '/var/tmp';
}

function standardStreams({ pipes }: CommandContext): StandardStreams {
  if (pipes !== undefined) return pipes;
  const none = (): never => {
    throw new LatchkeyError('USAGE_INVALID', 'there is no standard input and output here');
  };
  return {
    input: none,
    get output() {
      return none();
    },
  };
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

/** How the key server lists the image. */
export function repositoryName(location: ImageLocation): string {
  if (location.kind === 'layout') return `oci:${location.directory}`;
  if (location.kind !== 'registry') return `${location.kind}:${location.file}`;
  return `${location.reference.registry}/${location.reference.repository}`;
}

/** Where ciphertext of unfinished pushes waits (XDG base directory specification). */
export function cacheDirectory(context: CommandContext): string {
  const base = context.env['XDG_CACHE_HOME'];
  return join(base !== undefined && base !== '' ? base : join(homedir(), '.cache'), 'latchkey');
}
