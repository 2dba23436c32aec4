/** What names a PKCS#11 key: URIs, key files, the configuration of modules. */
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import {
  parsePkcs11Configuration,
  parsePkcs11KeyFile,
  pkcs11ConfigurationPaths,
} from '#src/keywrap/pkcs11-files.ts';
import { findPkcs11Module, internalModulePolicy, isModuleAllowed } from '#src/keywrap/pkcs11-module.ts';
import { parsePkcs11Uri } from '#src/keywrap/pkcs11-uri.ts';
import { temporaryDirectory } from '../fakes/temporary-directory.ts';

const raises = (code: string, message = /./) =>
  expect.objectContaining({ code, message: expect.stringMatching(message) as string }) as unknown as Error;

describe('a PKCS#11 URI', () => {
  test('is read with its bytes, its PIN and its module', () => {
    expect(
      parsePkcs11Uri(
        'pkcs11:model=SoftHSM%20v2;token=my%20token;id=%A9%00;object=key%3B1;type=private' +
          '?pin-value=a%26b&module-name=softhsm2',
      ),
    ).toMatchObject({
      model: 'SoftHSM v2',
      token: 'my token',
      id: Buffer.from([0xa9, 0]),
      object: 'key;1',
      pinValue: 'a&b',
      moduleName: 'softhsm2',
    });
    const rest = parsePkcs11Uri(
      'pkcs11:slot-id=4294967295;object=k?module-path=/m.so&pin-source=file:///p%20q',
    );
    expect(rest).toMatchObject({ slotId: 4294967295, pinSource: '/p q', modulePath: '/m.so' });
    expect(parsePkcs11Uri('pkcs11:token=t;object=k;x-vendor=1?module-name=m&x-more=2').token).toBe('t');
  });

  test.each([
    ['http://token=t', /does not start with/],
    ['pkcs11:object=k?module-name=m', /names no token/],
    ['pkcs11:token=t?module-name=m', /names no key/],
    ['pkcs11:token=t;object=k', /names no module/],
    ['pkcs11:token=t;token=u;object=k?module-name=m', /token twice/],
    ['pkcs11:token=t;object=%ZZ?module-name=m', /object has no proper value/],
    ['pkcs11:token=t;object=?module-name=m', /object has no proper value/],
    ['pkcs11:token=%FF;object=k?module-name=m', /token is not text/],
    ['pkcs11:token=t;object=a%00b?module-name=m', /object is not text/],
    ['pkcs11:token=t;object=k;key=1?module-name=m', /unknown attribute key/],
    ['pkcs11:slot-id=-1;object=k?module-name=m', /slot-id is not/],
    ['pkcs11:slot-id=4294967296;object=k?module-name=m', /slot-id is not/],
    ['pkcs11:token=t;object=k?module-name=m?pin-value=1', /two question marks/],
    ['pkcs11:token=t;object=k?module-name=m&pin-source=|cat%20pin', /pin-source is not/],
    ['pkcs11:token=t;object=k?module-name=m&pin-source=relative', /pin-source is not/],
  ])('%s is refused', (uri, message) => {
    expect(() => parsePkcs11Uri(uri)).toThrow(raises('KEY_INVALID', message));
  });

  test('never shows its PIN in an error, whatever else is wrong', () => {
    const parts = fc.array(
      fc.constantFrom('token=t', 'object=k', 'bad', 'id=%GG', '?', 'module-name=m', '&', ';'),
    );
    fc.assert(
      fc.property(parts, fc.string(), (texts, more) => {
        try {
          parsePkcs11Uri(`pkcs11:${texts.join(';')}?pin-value=S3CRET&pin-value=S3CRET${more}`);
        } catch (error) {
          expect(error).toBeInstanceOf(LatchkeyError);
          expect(`${String(error)}${(error as LatchkeyError).hint ?? ''}`).not.toContain('S3CRET');
        }
      }),
    );
  });
});

describe('a PKCS#11 key file', () => {
  const parse = (text: string) => parsePkcs11KeyFile(Buffer.from(text), 'key.yaml');

  test('names a key and the environment of its module', () => {
    const file = parse(
      'pkcs11:\n  uri: pkcs11:token=t;object=k?module-name=m&pin-value=0123\nmodule:\n  env:\n    A: 1\n',
    );
    expect(file).toMatchObject({ uri: { pinValue: '0123' }, moduleEnvironment: { A: '1' } });
    expect(parse('pkcs11: {uri: "pkcs11:token=t;object=k?module-name=m"}').moduleEnvironment).toEqual({});
  });

  test.each([
    ['nothing', ''],
    ['no YAML', 'pkcs11: [S3CRET'],
    ['more than a few lines', `pkcs11: {uri: S3CRET}\n${'#\n'.repeat(10_000)}`],
    ['no URI', 'pkcs11: {url: S3CRET}'],
    ['a list for a URI', 'pkcs11: {uri: [S3CRET]}'],
    ['a key twice', 'pkcs11: {uri: S3CRET, uri: S3CRET}'],
    ['aliases', 'a: &a S3CRET\npkcs11: {uri: *a}'],
    ['a bad URI', 'pkcs11: {uri: "pkcs11:pin-value=S3CRET"}'],
  ])('with %s is refused without being shown', (_what, text) => {
    try {
      parse(text);
      expect.unreachable();
    } catch (error) {
      expect(error).toEqual(raises('KEY_INVALID'));
      expect(`${String(error)}${String((error as Error).cause)}`).not.toContain('S3CRET');
    }
  });

  test('of any text gives nothing but our own error', () => {
    const lines = fc.array(
      fc.oneof(fc.string(), fc.constantFrom('pkcs11:', '  uri: x', '- a', '&a', '*a', '!!js x', '|')),
    );
    fc.assert(
      fc.property(lines, (list) => {
        expect(() => parse(list.join('\n'))).toThrow(LatchkeyError);
      }),
    );
  });
});

describe('which modules may be loaded', () => {
  const directory = temporaryDirectory();

  test('is read from ocicrypt.conf', () => {
    const policy = parsePkcs11Configuration(
      Buffer.from('pkcs11:\n  module-directories:\n    - /a/\n  allowed-module-paths:\n    - /a/m.so\n'),
      'ocicrypt.conf',
    );
    expect(policy).toEqual({ directories: ['/a/'], allowedPaths: ['/a/m.so'] });
    expect(() => parsePkcs11Configuration(Buffer.from('a: b'), 'c')).toThrow(raises('CONFIG_INVALID'));
    expect(parsePkcs11Configuration(Buffer.from('pkcs11: {}'), 'c').allowedPaths).toEqual([]);
  });

  test.each([
    [
      { XDG_CONFIG_HOME: '/xdg', HOME: '/home/a' },
      ['/xdg/ocicrypt.conf', '/home/a/.config/ocicrypt.conf', '/etc/ocicrypt.conf'],
    ],
    [{ HOME: '/home/a' }, ['/home/a/.config/ocicrypt.conf', '/etc/ocicrypt.conf']],
    [{ XDG_CONFIG_HOME: '', HOME: '' }, ['/etc/ocicrypt.conf']],
  ])('is looked for where peers look: %j', (env, paths) => {
    expect(pkcs11ConfigurationPaths(env)).toEqual(paths);
  });

  test('is decided by file or directory, not by what is below or beside it', () => {
    const policy = { directories: [], allowedPaths: ['/a/m.so', '/b/'] };
    expect(['/a/m.so', '/b/x.so'].every((path) => isModuleAllowed(policy, path))).toBe(true);
    expect(
      ['/a/n.so', '/b/c/x.so', '/bx.so', '/b', '/a/m.so/x'].some((path) => isModuleAllowed(policy, path)),
    ).toBe(false);
  });

  test('decides after a module was found by name or path', async () => {
    await mkdir(join(directory(), 'modules'));
    const file = join(directory(), 'modules', 'libsofthsm2.so');
    await writeFile(file, '');
    await symlink(file, join(directory(), 'outside.so'));
    const modules = `${join(directory(), 'modules')}/`;
    const policy = { directories: [modules], allowedPaths: [modules] };
    const find = (query: string) =>
      findPkcs11Module(parsePkcs11Uri(`pkcs11:token=t;object=k?${query}`), policy);
    expect(await find('module-name=softhsm2')).toBe(file);
    expect(await find('module-name=SoftHSM2')).toBe(file);
    expect(await find(`module-path=${file}`)).toBe(file);
    expect(await find(`module-path=${modules}&module-name=softhsm2`)).toBe(file);
    await expect(find('module-name=softhsm')).rejects.toThrow(raises('KEY_NOT_FOUND'));
    await expect(find('module-name=..%2Foutside')).rejects.toThrow(raises('KEY_NOT_FOUND'));
    await expect(find(`module-path=${modules}..%2Foutside.so`)).rejects.toThrow(raises('AUTH_FORBIDDEN'));
    await expect(find('module-path=/bin/sh')).rejects.toThrow(raises('AUTH_FORBIDDEN'));
    await expect(find('module-path=/none')).rejects.toThrow(raises('KEY_NOT_FOUND'));
  });

  test('is the system directories for the policy named internal', () => {
    expect(internalModulePolicy('x64').directories).toContain('/usr/lib/x86_64-linux-gnu/');
    expect(isModuleAllowed(internalModulePolicy('arm64'), '/usr/lib/softhsm/libsofthsm2.so')).toBe(true);
    expect(isModuleAllowed(internalModulePolicy('arm64'), '/tmp/libsofthsm2.so')).toBe(false);
  });
});
