// Uploads to a registry that stands still, drips, or takes and forgets.
import { describe, expect, test } from 'vitest';
import { MAX_TRANSFER_CUTS, MIN_TRANSFER_RATE } from '#src/base/limits.ts';
import { digestOf } from '#src/oci/digest.ts';
import { parseReference } from '#src/oci/reference.ts';
import { openRegistry } from '#src/registry/registry-store.ts';
import type { BlobStore } from '#src/store/blob-store.ts';
import { BLOB, CONTENT, NAME, useFakeRepository } from '../fakes/fake-repository.ts';
import { streamOf } from '../fakes/image.ts';
import type { Misbehaviour, RecordedRequest } from '../fakes/registry.ts';
import { drip } from './endless-body.ts';

/** More than the kernel keeps of what nobody reads. */
const LARGE = Buffer.alloc(32_000_000, 'latchkey');
const LARGE_BLOB = { mediaType: 'application/octet-stream', digest: digestOf(LARGE), size: LARGE.length };
const fake = useFakeRepository();

function open(answerTimeoutMs?: number): BlobStore {
  const { registry, timing } = fake.current;
  return openRegistry(parseReference(`${registry.host}/${NAME}:v1`), {
    timing,
    credentials: () => Promise.resolve({ kind: 'password', username: 'u', password: 'p' }),
    answerTimeoutMs,
  });
}

function patches(): RecordedRequest[] {
  return fake.current.registry.requests.filter(({ method }) => method === 'PATCH');
}

/** On a busy machine a try may be given up before it has reached the registry. */
function expectCuts(): void {
  expect(patches().length).toBeGreaterThan(0);
  expect(patches().length).toBeLessThanOrEqual(MAX_TRANSFER_CUTS + 1);
}

/** Takes over every request with content. */
function onPatch(misbehave: Misbehaviour): void {
  fake.current.registry.misbehaviours.push(
    ({ method, ...rest }, response, incoming) =>
      method === 'PATCH' && misbehave({ method, ...rest }, response, incoming),
  );
}

describe('an upload is given up', () => {
  test('that stands still', async () => {
    onPatch(() => true);
    const writing = open(100).writeBlob(LARGE_BLOB, () => streamOf(LARGE));
    await expect(writing).rejects.toMatchObject({ code: 'NET_TIMEOUT' });
    expectCuts();
  });

  test('that is taken too slowly, though never silent', async () => {
    onPatch((_request, _response, incoming) => {
      incoming.on('data', (chunk: Buffer) =>
        fake.current.timing.advance((2000 * chunk.length) / MIN_TRANSFER_RATE),
      );
      incoming.on('error', () => undefined);
      return true;
    });
    const writing = open().writeBlob(LARGE_BLOB, () => streamOf(LARGE));
    await expect(writing).rejects.toMatchObject({ code: 'NET_TIMEOUT' });
    expect(patches()).toHaveLength(MAX_TRANSFER_CUTS + 1);
  });

  test.each(['head', 'body'])('whose answer has a dripping %s', async (part) => {
    onPatch((_, response, incoming) => {
      incoming.resume().once('end', () => {
        if (part === 'body') response.writeHead(202, { location: '/x' });
        const { socket } = response;
        if (part === 'head') socket?.write('HTTP/1.1 202 Accepted\r\nx: ');
        drip(response, () => (part === 'body' ? response.write(' ') : socket?.write('x')));
      });
      return true;
    });
    const writing = open(100).writeBlob(BLOB, () => streamOf(CONTENT));
    await expect(writing).rejects.toMatchObject({ code: 'NET_TIMEOUT' });
    expectCuts();
  });

  test.each<[string, (asked: number) => number]>([
    ['a byte more each time', (asked) => 1 + asked],
    ['much, and forgets it', (asked) => (asked % 2 === 0 ? 0 : 1_000_000)],
  ])('after cuts between which the registry takes %s', async (_, lastByte) => {
    onPatch((_, response) => {
      response.destroy();
      return true;
    });
    let asked = 0;
    fake.current.registry.misbehaviours.push(({ method, url }, response) => {
      if (method !== 'GET' || !url.pathname.includes('/uploads/')) return false;
      response.writeHead(204, { range: `0-${lastByte((asked += 1))}` }).end();
      return true;
    });
    const writing = open().writeBlob(BLOB, () => streamOf(CONTENT));
    await expect(writing).rejects.toMatchObject({ code: 'NET_UNREACHABLE' });
    expect(patches().length).toBeLessThanOrEqual(2 * (MAX_TRANSFER_CUTS + 1));
  });
});

describe('an upload goes on', () => {
  test('to a registry that takes long but keeps moving', async () => {
    const bytesEachMs = 100;
    const { registry, timing } = fake.current;
    registry.misbehaviours.push(({ method }, _, incoming) => {
      if (method === 'PATCH') {
        incoming.on('data', (chunk: Buffer) => timing.advance(chunk.length / bytesEachMs));
        incoming.pause();
      }
      return false;
    });
    await open().writeBlob(LARGE_BLOB, () => streamOf(LARGE));
    expect(patches()).toHaveLength(1);
  });

  test('from a source that takes its time', async () => {
    const { timing } = fake.current;
    await open(60_000).writeBlob(BLOB, async function* () {
      for await (const chunk of streamOf(CONTENT)) {
        timing.advance(3_600_000);
        yield chunk;
      }
    });
    expect(patches()).toHaveLength(1);
  });
});
