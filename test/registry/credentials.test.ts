import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { dockerCredentials, type Credentials } from '#src/registry/credentials.ts';

const SECRET = 'hunter2:with-colon';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-docker-config-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}

async function find(config: unknown, registry: string): Promise<Credentials | undefined> {
  const text = typeof config === 'string' ? config : JSON.stringify(config);
  await writeFile(join(directory, 'config.json'), text);
  return dockerCredentials({ DOCKER_CONFIG: directory, PATH: `${directory}:${process.env['PATH'] ?? ''}` })(
    registry,
  );
}

async function addHelper(name: string, script: string): Promise<void> {
  await writeFile(join(directory, `docker-credential-${name}`), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
}

describe('auths', () => {
  const entry = { auth: base64(`user:${SECRET}`) };
  const found = { kind: 'password', username: 'user', password: SECRET };

  test.each([
    ['registry.example.com', 'registry.example.com'],
    ['https://registry.example.com', 'registry.example.com'],
    ['https://registry.example.com/v1/', 'registry.example.com'],
    ['registry.example.com:5000', 'registry.example.com:5000'],
    ['https://index.docker.io/v1/', 'docker.io'],
  ])('the key %s is for %s', async (key, registry) => {
    expect(await find({ auths: { [key]: entry } }, registry)).toEqual(found);
  });

  test.each([
    ['registry.example.com', 'registry.example.com.evil.net'],
    ['registry.example.com', 'evil-registry.example.com'],
    ['registry.example.com', 'example.com'],
    ['registry.example.com', 'registry.example.com:5000'],
    ['registry.example.com/team', 'registry.example.com'],
    ['https://evil.net/registry.example.com', 'registry.example.com'],
  ])('the key %s is not for %s', async (key, registry) => {
    expect(await find({ auths: { [key]: entry } }, registry)).toBeUndefined();
  });

  test('identity tokens, plain fields and empty entries', async () => {
    expect(await find({ auths: { h: { ...entry, identitytoken: 't' } } }, 'h')).toEqual({
      kind: 'identity-token',
      token: 't',
    });
    expect(await find({ auths: { h: { username: 'user', password: SECRET } } }, 'h')).toEqual(found);
    expect(await find({ auths: { h: {} } }, 'h')).toBeUndefined();
    expect(await find({}, 'h')).toBeUndefined();
  });

  test('no file means no credentials', async () => {
    expect(await dockerCredentials({ DOCKER_CONFIG: join(directory, 'none') })('h')).toBeUndefined();
    expect(await dockerCredentials({ HOME: directory })('h')).toBeUndefined();
    expect(await dockerCredentials({})('h')).toBeUndefined();
  });

  test.each([
    ['text', `{"auths": ${SECRET}`],
    ['a wrong shape', { auths: { h: { auth: [SECRET] } } }],
    ['no colon', { auths: { h: { auth: base64(SECRET.replace(':', '')) } } }],
  ])('%s is reported without what is in it', async (_, config) => {
    const error: unknown = await find(config, 'h').catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'CONFIG_INVALID', hint: expect.any(String) as string });
    expect((error as Error).message).not.toContain('hunter2');
    expect((error as Error).message).not.toContain(base64(SECRET.replace(':', '')));
  });
});

describe('credential helpers', () => {
  test('the registry goes in on stdin, not on the command line', async () => {
    await addHelper(
      'mine',
      `cat > ${directory}/stdin; echo "$@" > ${directory}/argv; echo '{"ServerURL":"h","Username":"user","Secret":"${SECRET}"}'`,
    );
    expect(await find({ credHelpers: { 'registry.example.com': 'mine' } }, 'registry.example.com')).toEqual({
      kind: 'password',
      username: 'user',
      password: SECRET,
    });
    expect(await readFile(join(directory, 'stdin'), 'utf8')).toBe('registry.example.com');
    expect(await readFile(join(directory, 'argv'), 'utf8')).toBe('get\n');
    expect(await find({ credHelpers: { 'registry.example.com': 'mine' } }, 'example.com')).toBeUndefined();
  });

  test('credsStore serves every registry; <token> marks an identity token', async () => {
    await addHelper('store', `cat > ${directory}/stdin; echo '{"Username":"<token>","Secret":"t"}'`);
    expect(await find({ credsStore: 'store' }, 'docker.io')).toEqual({ kind: 'identity-token', token: 't' });
    expect(await readFile(join(directory, 'stdin'), 'utf8')).toBe('https://index.docker.io/v1/');
  });

  test('a helper without an entry falls back to auths', async () => {
    await addHelper('empty', 'echo "credentials not found in native keychain"; exit 1');
    const config = { credsStore: 'empty', auths: { h: { auth: base64('a:b') } } };
    expect(await find(config, 'h')).toEqual({ kind: 'password', username: 'a', password: 'b' });
  });

  test.each([
    ['missing', undefined],
    ['broken', `echo "${SECRET}"; exit 3`],
    ['babbling', `echo "not json ${SECRET}"`],
    ['odd', `echo '{"Secret":"${SECRET}"}'`],
    ['../evil', undefined],
  ])('the helper %s is reported without a secret', async (name, script) => {
    if (script !== undefined) await addHelper(name, script);
    const error: unknown = await find({ credsStore: name }, 'h').catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining(`docker-credential-${name}`) as string,
    });
    expect((error as Error).message).not.toContain('hunter2');
  });
});
