import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { LatchkeyError } from '#src/base/errors.ts';
import { MAX_PROVIDER_MESSAGE_BYTES } from '#src/base/limits.ts';
import { encodeBase64 } from '#src/crypto/base64.ts';
import { formatPrivateOptions } from '#src/crypto/layer-options.ts';
import { digestOf } from '#src/oci/digest.ts';
import { type KeyProvider, createProviderUnwrapper, createProviderWrapper } from '#src/keywrap/provider.ts';

const PROGRAM = join(import.meta.dirname, '..', 'fakes', 'key-provider-program.ts');
const SYMMETRIC_KEY = Buffer.alloc(32, 7);
const OPTIONS = formatPrivateOptions({
  symmetricKey: SYMMETRIC_KEY,
  nonce: Buffer.alloc(16, 8),
  plainDigest: digestOf('layer'),
});
const TIMEOUT_MS = 300;

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-provider-'));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

function provider(behaviour: string, options: Partial<KeyProvider> = {}): KeyProvider {
  const args = [PROGRAM, directory, behaviour];
  return {
    name: 'acme',
    transport: { kind: 'command', path: process.execPath, args },
    environment: process.env,
    ...options,
  };
}

async function failureOf(work: Promise<unknown>): Promise<LatchkeyError> {
  return work.then(
    () => {
      throw new Error('expected a failure');
    },
    (error: unknown) => error as LatchkeyError,
  );
}

describe('a program', () => {
  test.each(['base64', 'numbers'])('wraps and opens, answering in %s', async (form) => {
    const wrapper = createProviderWrapper(provider(form), 'tenant=a:b');
    expect(wrapper.annotation).toBe('org.opencontainers.image.enc.keys.provider.acme');
    const element = await wrapper.wrap(OPTIONS);
    expect(Buffer.from(element).includes(SYMMETRIC_KEY)).toBe(false);
    const unwrapper = createProviderUnwrapper(provider(form), undefined);
    expect(unwrapper.annotation).toBe(wrapper.annotation);
    expect(Buffer.from((await unwrapper.unwrap(element))!)).toEqual(Buffer.from(OPTIONS));
  });

  test('that fails is quoted in one line', async () => {
    const failure = await failureOf(createProviderUnwrapper(provider('fail'), 'x').unwrap(Buffer.from('e')));
    expect(failure.code).toBe('KEY_PROVIDER_FAILED');
    expect(failure.message).toBe(
      'key provider acme ended with status 3: "no such key\\n\\u001b[2Jask the administrator"',
    );
  });

  test('that repeats its request does not bring the layer key into the message', async () => {
    const failure = await failureOf(createProviderWrapper(provider('repeat-request'), 'x').wrap(OPTIONS));
    expect(failure.message).toContain('(layer key)');
    expect(failure.message).toContain('keywrap');
    for (const secret of [encodeBase64(OPTIONS), encodeBase64(SYMMETRIC_KEY)]) {
      expect(failure.message).not.toContain(secret);
    }
  });

  test('that prints the bytes of its request as numbers does not bring it there either', async () => {
    const failure = await failureOf(createProviderWrapper(provider('repeat-numbers'), 'x').wrap(OPTIONS));
    expect(failure.message).toContain('"optsdata: Some([(layer key)]) &{[(layer key)]}"');
  });

  test('that dies in the middle of its answer', async () => {
    const failure = await failureOf(createProviderWrapper(provider('die'), 'x').wrap(OPTIONS));
    expect(failure.code).toBe('KEY_PROVIDER_FAILED');
    expect(failure.message).toContain('SIGKILL');
  });

  test('that answers nonsense', async () => {
    const failure = await failureOf(createProviderWrapper(provider('garbage'), 'x').wrap(OPTIONS));
    expect(failure.code).toBe('KEY_PROVIDER_FAILED');
    expect(failure.message).toBe(
      'key provider acme gave an answer that cannot be used (the answer is not JSON)',
    );
  });

  test('that gives something that is no layer key', async () => {
    const element = await createProviderWrapper(provider('base64'), 'x').wrap(OPTIONS);
    const damaged = Buffer.from(element);
    damaged[20]! ^= 1;
    const failure = await failureOf(createProviderUnwrapper(provider('base64'), 'x').unwrap(damaged));
    expect(failure.code).toBe('KEY_PROVIDER_FAILED');
  });

  test('that answers with 100 MiB is stopped', async () => {
    const before = process.memoryUsage.rss();
    const failure = await failureOf(createProviderWrapper(provider('flood'), 'x').wrap(OPTIONS));
    expect(failure.message).toMatch(/answered with more than/);
    expect(process.memoryUsage.rss() - before).toBeLessThan(50 * 1024 * 1024);
  });

  test('that answers with one byte too many, after a pause, is stopped', async () => {
    const args = ['-c', `head -c ${MAX_PROVIDER_MESSAGE_BYTES} /dev/zero; sleep 0.2; head -c 1 /dev/zero`];
    const transport = { kind: 'command', path: '/bin/sh', args } as const;
    const failure = await failureOf(createProviderWrapper(provider('', { transport }), 'x').wrap(OPTIONS));
    expect(failure.message).toMatch(/answered with more than/);
  });

  test('that hangs is ended at the deadline', async () => {
    const hanging = provider('hang', { timeoutMs: TIMEOUT_MS });
    const failure = await failureOf(createProviderWrapper(hanging, 'x').wrap(OPTIONS));
    expect(failure.code).toBe('NET_TIMEOUT');
    expect(failure.message).toContain('0.3 s');
  });

  test('that hangs by a child of its own is let go of, and itself ended', async () => {
    const pidFile = join(directory, 'pid');
    const script = join(directory, 'hang.sh');
    await writeFile(
      script,
      `echo $$ >'${pidFile}.new'\nsleep 30 &\nmv '${pidFile}.new' '${pidFile}'\nwait\n`,
    );
    const transport = { kind: 'command', path: '/bin/sh', args: [script] } as const;
    // Where the deadline has come before the program was under way, there is nothing to see yet.
    for (let timeoutMs = TIMEOUT_MS; !existsSync(pidFile); timeoutMs *= 2) {
      const hanging = provider('', { transport, timeoutMs });
      const failure = await failureOf(createProviderWrapper(hanging, 'x').wrap(OPTIONS));
      expect(failure.code).toBe('NET_TIMEOUT');
    }
    const pid = Number(await readFile(pidFile, 'utf8'));
    await expect.poll(() => isRunning(pid)).toBe(false);
  });

  test('is ended when the work is interrupted', async () => {
    const controller = new AbortController();
    const work = createProviderWrapper(provider('hang', { signal: controller.signal }), 'x').wrap(OPTIONS);
    await sleep(50);
    controller.abort();
    expect((await failureOf(work)).code).toBe('INTERRUPTED');
  });

  test('is not started when the work was interrupted before', async () => {
    const work = createProviderWrapper(provider('base64', { signal: AbortSignal.abort() }), 'x').wrap(
      OPTIONS,
    );
    await expect(work).rejects.toThrow();
  });

  test('that is not there is named', async () => {
    const transport = { kind: 'command', path: '/nowhere/kp', args: [] } as const;
    const failure = await failureOf(createProviderWrapper(provider('', { transport }), 'x').wrap(OPTIONS));
    expect(failure.code).toBe('CONFIG_INVALID');
    expect(failure.message).toContain('"/nowhere/kp"');
  });

  test('gets its arguments as they are, without a shell', async () => {
    const transport = { kind: 'command', path: '/bin/echo', args: ['$(id)', '; id', '*'] } as const;
    const failure = await failureOf(createProviderWrapper(provider('', { transport }), 'x').wrap(OPTIONS));
    expect(failure.message).toContain('is not JSON');
  });
});

test.each(['ttrpc', 'native'])('%s is named as unsupported', async (transport) => {
  const unsupported = provider('', { transport: { kind: 'unsupported', transport } });
  const failure = await failureOf(createProviderUnwrapper(unsupported, undefined).unwrap(Buffer.from('e')));
  expect(failure.code).toBe('INPUT_UNSUPPORTED');
  expect(failure.message).toContain(transport);
});

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
