// Archives made to harm: only our own errors, in bounded memory and time.
import { open as openFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_ARCHIVE_MEMBERS, MIN_UNPACK_BYTES } from '#src/base/limits.ts';
import { digestHex } from '#src/oci/digest.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import type { ArchiveStore } from '#src/store/archive-store.ts';
import { copyImage } from '#src/store/copy.ts';
import { openDockerArchive } from '#src/store/docker-archive.ts';
import { createMemoryStore } from '#src/store/memory.ts';
import { openOciArchive } from '#src/store/oci-archive.ts';
import { fakeStreams } from '../fakes/archive-options.ts';
import { fakeImage } from '../fakes/image.ts';
import { fakeTar, rawTarHeader, type FakeMember } from '../fakes/tar.ts';
import { temporaryDirectory } from '../fakes/temporary-directory.ts';

const SLOW = process.env['SLOW'] === '1';
const directory = temporaryDirectory();
const path = (): string => join(directory(), 'hostile.tar');
const image = fakeImage([2000, 700]);
const EMPTY_BLOCKS = Buffer.alloc(1024);

/** A sound archive, to be harmed. */
function members(): FakeMember[] {
  const { descriptor, bytes } = image.manifest;
  const index = { schemaVersion: 2, mediaType: MEDIA_TYPE.ociIndex, manifests: [descriptor] };
  const blobs = [...image.blobs, [descriptor.digest, bytes] as const];
  return [
    { name: 'oci-layout', content: '{"imageLayoutVersion":"1.0.0"}' },
    { name: 'index.json', content: JSON.stringify(index) },
    ...blobs.map(([digest, content]) => ({ name: `blobs/sha256/${digestHex(digest)}`, content })),
  ];
}

/** Reads everything there is, and closes it. */
async function readAll(archive: ArchiveStore): Promise<void> {
  try {
    await copyImage(archive, createMemoryStore());
  } finally {
    await archive.discard();
  }
}

async function readOci(bytes: Uint8Array): Promise<void> {
  await writeFile(path(), bytes);
  await readAll(openOciArchive(path(), fakeStreams(directory()).options));
}

async function codeOf(bytes: Uint8Array): Promise<string | undefined> {
  try {
    await readOci(bytes);
    return undefined;
  } catch (error) {
    if (error instanceof LatchkeyError) return error.code;
    throw error;
  }
}

test('the sound archive is read', async () => {
  expect(await codeOf(await fakeTar(members()))).toBeUndefined();
});

describe('names and links', () => {
  test.each<[string, FakeMember]>([
    ['a name that climbs', { name: '../../etc/cron.d/x', content: 'x' }],
    ['a name that climbs in its middle', { name: 'blobs/../../x', content: 'x' }],
    ['an absolute name', { name: '/etc/passwd', content: 'x' }],
    ['a directory outside', { name: '../out/', type: 'directory' }],
    ['a symbolic link out', { name: 'l', type: 'symlink', linkname: '../../etc/passwd' }],
    ['a symbolic link to the root', { name: 'l', type: 'symlink', linkname: '/etc/passwd' }],
    ['a hard link out', { name: 'l', type: 'link', linkname: '../etc/passwd' }],
    ['an absolute hard link', { name: 'l', type: 'link', linkname: '/etc/passwd' }],
    ['a device', { name: 'd', type: 'block-device' }],
    ['a pipe', { name: 'p', type: 'fifo' }],
    ['a file twice', { name: 'index.json', content: '{}' }],
    ['a link in place of a file', { name: 'index.json', type: 'symlink', linkname: 'other' }],
    ['an oversized name', { name: 'x'.repeat(5000), content: 'x' }],
  ])('%s is refused', async (_, member) => {
    expect(await codeOf(await fakeTar([...members(), member]))).toBe('INPUT_MALFORMED');
    expect(await readdir(directory())).toEqual(['hostile.tar']);
  });

  test('links in a circle are no file', async () => {
    const [layout, ...others] = members().filter(({ name }) => name !== 'index.json');
    const circle: FakeMember[] = [
      { name: 'index.json', type: 'symlink', linkname: 'other' },
      { name: 'other', type: 'link', linkname: 'index.json' },
    ];
    expect(await codeOf(await fakeTar([layout!, ...circle, ...others]))).toBe('INPUT_MALFORMED');
  });
});

describe('sizes', () => {
  const withHeader = async (fields: Parameters<typeof rawTarHeader>[0]): Promise<Buffer> =>
    Buffer.concat([(await fakeTar(members())).subarray(0, -1024), rawTarHeader(fields), EMPTY_BLOCKS]);

  test.each([
    ['beyond the end', '77777777777\0'],
    ['of eight exbibytes', '\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff'],
    ['beyond all numbers', `\x80${'\xff'.repeat(11)}`],
    ['of an unknown form', `\x90${'\x01'.repeat(11)}`],
    ['below zero', `\xff${'\xff'.repeat(11)}`],
    ['of letters', 'zzzzzzzzzzz\0'],
  ])('a file %s is refused', async (_, size) => {
    expect(await codeOf(await withHeader({ size }))).toMatch(/^INPUT_(?:TRUNCATED|MALFORMED)$/);
  });

  test.each(['1', '2', '3', '5', '6'])('content behind a member of type %s is refused', async (typeflag) => {
    const harmed = await withHeader({ typeflag, size: '00000001000\0', linkname: 'index.json' });
    expect(await codeOf(harmed)).toBe('INPUT_MALFORMED');
  });

  test.each(['x', 'L', 'K', 'g'])('an endless %s header is refused', async (typeflag) => {
    const harmed = await withHeader({ typeflag, size: '00020000000\0' });
    expect(await codeOf(Buffer.concat([harmed, Buffer.alloc(4 * 1024 * 1024, 'x')]))).toBe('INPUT_MALFORMED');
  });

  test('a million files are given up early', async () => {
    const file = await openFile(path(), 'w');
    const header = rawTarHeader({ typeflag: '5', name: 'd' });
    const batch = Buffer.concat(Array.from({ length: MAX_ARCHIVE_MEMBERS }, () => header));
    await file.write(batch);
    await file.write(header);
    // The rest is a hole: never read.
    await file.truncate(512 * 1_000_000);
    await file.close();
    await expect(readAll(openOciArchive(path(), fakeStreams(directory()).options))).rejects.toMatchObject({
      code: 'LIMIT_EXCEEDED',
    });
  });

  test('a gzip bomb is given up, and its copy goes with it', async () => {
    const member = gzipSync(Buffer.alloc(64 * 1024 * 1024));
    const count = MIN_UNPACK_BYTES / (64 * 1024 * 1024) + 1;
    await writeFile(path(), Buffer.concat(Array.from({ length: count }, () => member)));
    await expect(readAll(openDockerArchive(path(), fakeStreams(directory()).options))).rejects.toMatchObject({
      code: 'LIMIT_EXCEEDED',
    });
    expect(await readdir(directory())).toEqual(['hostile.tar']);
  });

  test.each(['index.json', 'oci-layout'])('%s of many megabytes is refused', async (name) => {
    const harmed = members().map((member) =>
      member.name === name ? { name, content: Buffer.alloc(5 * 1024 * 1024, ' ') } : member,
    );
    expect(await codeOf(await fakeTar(harmed))).toBe('LIMIT_EXCEEDED');
  });
});

describe('content', () => {
  test.each(['bzip2', 'xz'])('%s is told apart', async (kind) => {
    const magic = kind === 'xz' ? 'fd377a585a000004' : '425a683931415926';
    expect(await codeOf(Buffer.from(magic, 'hex'))).toBe('INPUT_UNSUPPORTED');
  });

  test.each<[string, Uint8Array]>([
    ['nothing', Buffer.alloc(0)],
    ['zeros', Buffer.alloc(10_240)],
    ['text', Buffer.from('hello')],
    ['a long text', Buffer.alloc(5000, 'text ')],
  ])('%s is no archive', async (_, bytes) => {
    expect(await codeOf(bytes)).toBe('INPUT_NOT_AN_IMAGE');
  });

  test('a cut-off gzip is refused', async () => {
    const packed = gzipSync(await fakeTar(members()));
    expect(await codeOf(packed.subarray(0, packed.length - 100))).toBe('INPUT_MALFORMED');
    expect(await codeOf(packed.subarray(0, 5))).toBe('INPUT_MALFORMED');
  });

  test('cut anywhere, it is never read to the end', async () => {
    const whole = await fakeTar(members());
    const contentBytes = whole.length - EMPTY_BLOCKS.length;
    for (let cut = 0; cut < contentBytes; cut += SLOW ? 97 : 509) {
      const code = await codeOf(whole.subarray(0, cut));
      // Padding behind the last file may be missing; nothing of an image is.
      if (code !== undefined) expect(code).toMatch(/^(?:INPUT_|STATE_NOT_FOUND)/);
      else expect(cut).toBeGreaterThan(contentBytes - 512);
    }
  });

  test('whatever byte is changed, only our own error comes out, and a read image is the true one', async () => {
    const whole = await fakeTar(members());
    const change = fc.tuple(fc.nat(whole.length - 1), fc.integer({ min: 1, max: 255 }));
    await fc.assert(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 4 }), async (changes) => {
        const harmed = Buffer.from(whole);
        for (const [position, bits] of changes) harmed[position]! ^= bits;
        await writeFile(path(), harmed);
        const archive = openOciArchive(path(), fakeStreams(directory()).options);
        const back = createMemoryStore();
        try {
          const { digest } = await copyImage(archive, back, { reference: image.manifest.descriptor.digest });
          expect(digest).toBe(image.manifest.descriptor.digest);
        } catch (error) {
          expect(error).toBeInstanceOf(LatchkeyError);
          expect((error as LatchkeyError).code).not.toBe('BUG_UNEXPECTED');
        } finally {
          await archive.discard();
        }
      }),
      { numRuns: SLOW ? 2000 : 60 },
    );
  });
});
