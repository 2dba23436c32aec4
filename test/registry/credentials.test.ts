import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { MAX_DOCKER_CONFIG_BYTES } from '#src/base/limits.ts';
import { credentialFiles, storedCredentials, type Credentials } from '#src/registry/credentials.ts';
import { beside, makePipe } from '../fakes/pipe.ts';

const SECRET = 'hunter2:with-colon';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-docker-config-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}

async function find(
  config: unknown,
  registry: string,
  helperTimeoutMs?: number,
): Promise<Credentials | undefined> {
  const text = typeof config === 'string' ? config : JSON.stringify(config);
  await writeFile(join(directory, 'config.json'), text);
  const environment = { DOCKER_CONFIG: directory, PATH: `${directory}:${process.env['PATH'] ?? ''}` };
  return storedCredentials(environment, helperTimeoutMs)(registry);
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
    ['registry.example.com/', 'registry.example.com'],
    ['registry.example.com/v1', 'registry.example.com'],
    ['https://registry.example.com/v1/', 'registry.example.com'],
    ['registry.example.com/v2', 'registry.example.com'],
    ['http://registry.example.com/v2/', 'registry.example.com'],
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
    ['registry.example.com/v3', 'registry.example.com'],
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
    expect(await storedCredentials({ DOCKER_CONFIG: join(directory, 'none') })('h')).toBeUndefined();
    expect(await storedCredentials({ HOME: directory })('h')).toBeUndefined();
    expect(await storedCredentials({})('h')).toBeUndefined();
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

  test('the helper of a host comes before the one for all, and before auths', async () => {
    await addHelper('mine', `echo '{"Username":"mine","Secret":"s"}'`);
    await addHelper('all', `echo '{"Username":"all","Secret":"s"}'`);
    const auths = { h: { auth: base64('stored:s') }, i: { auth: base64('stored:s') } };
    const config = { auths, credHelpers: { h: 'mine' }, credsStore: 'all' };
    expect(await find(config, 'h')).toMatchObject({ username: 'mine' });
    expect(await find(config, 'i')).toMatchObject({ username: 'all' });
    expect(await find({ auths, credHelpers: { h: 'mine' } }, 'i')).toMatchObject({ username: 'stored' });
  });

  test('a helper that babbles without an end is cut off', async () => {
    const status = makePipe(join(directory, 'status'));
    await addHelper('endless', `(head -c 20000000 /dev/zero; echo $? > ${status}) & wait`);
    const ended = readFile(status, 'utf8');
    await expect(find({ credsStore: 'endless' }, 'h')).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining('too long') as string,
    });
    // How writing failed depends on what was still in the pipe.
    expect(await ended).not.toBe('0\n');
  });

  test.each([
    ['is silent', 'exec sleep 600'],
    ['drips, by a program of its own', '(while echo x; do sleep 0.05; done) & wait'],
  ])('a helper that %s is given up', async (_, script) => {
    await addHelper('slow', script);
    await expect(find({ credsStore: 'slow' }, 'h', 100)).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining('in time') as string,
    });
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

describe('where credentials are', () => {
  const auths = (user: string, keys: readonly string[] = ['h']): string =>
    JSON.stringify({
      auths: Object.fromEntries(keys.map((key) => [key, { auth: base64(`${user}@${key}:p`) }])),
    });

  async function put(path: string, text: string): Promise<void> {
    await mkdir(join(directory, path, '..'), { recursive: true });
    await writeFile(join(directory, path), text);
  }

  test.each<[string, NodeJS.ProcessEnv]>([
    ['run/containers/auth.json', { XDG_RUNTIME_DIR: 'run' }],
    ['config/containers/auth.json', { XDG_CONFIG_HOME: 'config' }],
    ['home/.config/containers/auth.json', { HOME: 'home' }],
    ['home/.docker/config.json', { HOME: 'home' }],
    ['docker/config.json', { DOCKER_CONFIG: 'docker' }],
    ['auth.json', { REGISTRY_AUTH_FILE: 'auth.json' }],
  ])('%s', async (path, environment) => {
    await put(path, auths('me'));
    const absolute = Object.entries(environment).map(([name, value]) => [name, join(directory, value ?? '')]);
    const source = storedCredentials(Object.fromEntries(absolute) as NodeJS.ProcessEnv);
    expect(await source('h')).toMatchObject({ username: 'me@h' });
  });

  test('a file is read up to the limit and not beyond', async () => {
    const text = auths('me');
    await put('auth.json', text.padEnd(MAX_DOCKER_CONFIG_BYTES));
    const source = storedCredentials({ REGISTRY_AUTH_FILE: join(directory, 'auth.json') });
    expect(await source('h')).toMatchObject({ username: 'me@h' });
    await put('auth.json', text.padEnd(MAX_DOCKER_CONFIG_BYTES + 1));
    const refused = { code: 'CONFIG_INVALID', message: expect.stringContaining('too large') as string };
    await expect(source('h')).rejects.toMatchObject(refused);
    const [pipe, status] = [makePipe(join(directory, 'pipe')), join(directory, 'status')];
    const writing = beside('head -c 20000000 /dev/zero > "$1"; echo $? > "$2"', pipe, status);
    await expect(storedCredentials({ REGISTRY_AUTH_FILE: pipe })('h')).rejects.toMatchObject(refused);
    await writing;
    expect(await readFile(status, 'utf8')).not.toBe('0\n');
  });

  test('podman comes before Docker, a missing entry falls through, and a named file stands alone', async () => {
    await put('run/containers/auth.json', auths('runtime'));
    await put('home/.config/containers/auth.json', auths('settings', ['h', 'i']));
    await put('home/.docker/config.json', auths('docker', ['h', 'i', 'j']));
    const environment = { XDG_RUNTIME_DIR: join(directory, 'run'), HOME: join(directory, 'home') };
    const source = storedCredentials(environment);
    expect(await source('h')).toMatchObject({ username: 'runtime@h' });
    expect(await source('i')).toMatchObject({ username: 'settings@i' });
    expect(await source('j')).toMatchObject({ username: 'docker@j' });
    expect(await source('k')).toBeUndefined();
    const named = storedCredentials({
      ...environment,
      REGISTRY_AUTH_FILE: join(directory, 'run/containers/auth.json'),
    });
    expect(await named('j')).toBeUndefined();
    expect(credentialFiles({ ...environment, DOCKER_CONFIG: '/d', REGISTRY_AUTH_FILE: '' })).toEqual([
      '/d/config.json',
    ]);
  });

  test('the longest path that the repository is in counts', async () => {
    const keys = ['h', 'h/team', 'h/team/app', 'h/teams', 'docker.io/library'];
    await put('auth.json', auths('me', keys));
    const source = storedCredentials({ REGISTRY_AUTH_FILE: join(directory, 'auth.json') });
    const userOf = async (registry: string, repository: string): Promise<unknown> => {
      const found = await source(registry, repository);
      return found?.kind === 'password' ? found.username : undefined;
    };
    expect(await userOf('h', 'team/app')).toBe('me@h/team/app');
    expect(await userOf('h', 'team/app/part')).toBe('me@h/team/app');
    expect(await userOf('h', 'team/application')).toBe('me@h/team');
    expect(await userOf('h', 'other/app')).toBe('me@h');
    expect(await userOf('docker.io', 'library/nginx')).toBe('me@docker.io/library');
    expect(await userOf('docker.io', 'acme/nginx')).toBeUndefined();
    expect(await userOf('h', '__proto__')).toBe('me@h');
  });
});
