import { writeFile } from 'node:fs/promises';
import { DatabaseSync } from 'node:sqlite';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  ERROR_TABLE,
  type ErrorCode,
  LatchkeyError,
  isDeniedCode,
  isErrorCode,
  systemErrorCode,
  toLatchkeyError,
} from '#src/base/errors.ts';

const codes = Object.keys(ERROR_TABLE) as ErrorCode[];

describe('the table', () => {
  test.each(codes)('says for %s what every boundary shows', (code) => {
    const { exit, grpc, http } = ERROR_TABLE[code];
    expect(exit).toBeGreaterThan(0);
    expect(exit).toBeLessThan(256);
    expect(grpc).toBeGreaterThan(0);
    expect(grpc).toBeLessThanOrEqual(16);
    expect(http).toBeGreaterThanOrEqual(400);
    expect(http).toBeLessThan(600);
    expect(isErrorCode(code)).toBe(true);
  });

  test('lets scripts tell a denial: exit status 77', () => {
    for (const code of codes.filter(isDeniedCode)) expect(ERROR_TABLE[code].exit).toBe(77);
  });

  test('holds nothing that is only inherited', () => {
    for (const name of ['toString', '__proto__', 'constructor', '', 7, null, undefined]) {
      expect(isErrorCode(name)).toBe(false);
    }
  });
});

describe('the line', () => {
  test('says everything once, in order', () => {
    const error = new LatchkeyError('DENIED_LICENSE_EXPIRED', 'it ended yesterday', {
      licenseId: 'lic-1',
      hint: 'buy another',
      contact: 'sales@acme',
      cause: new Error('not shown'),
    });
    expect(error.line).toBe(
      'DENIED_LICENSE_EXPIRED: it ended yesterday; license lic-1; buy another; contact: sales@acme',
    );
  });

  test('does not name a license that the message names', () => {
    const error = new LatchkeyError('DENIED_LICENSE_EXPIRED', 'license lic-1 ended', { licenseId: 'lic-1' });
    expect(error.line).toBe('DENIED_LICENSE_EXPIRED: license lic-1 ended');
  });
});

describe('anything thrown', () => {
  test('becomes a LatchkeyError with the original behind it', () => {
    fc.assert(
      fc.property(fc.anything(), (thrown) => {
        const error = toLatchkeyError(thrown);
        expect(error.code).toBe('BUG_UNEXPECTED');
        expect(error.cause).toBe(thrown);
      }),
    );
  });

  test('even when it cannot say what it is', () => {
    const thrown = { toString: '' };
    expect(toLatchkeyError(thrown)).toMatchObject({ code: 'BUG_UNEXPECTED', cause: thrown });
  });

  test('that is one already stays what it is', () => {
    const error = new LatchkeyError('NET_TLS', 'x');
    expect(toLatchkeyError(error)).toBe(error);
  });

  test.each([
    ['ENOSPC', 'STORAGE_FULL'],
    ['EDQUOT', 'STORAGE_FULL'],
    ['EADDRINUSE', 'STATE_PORT_IN_USE'],
    ['ECONNREFUSED', 'NET_UNREACHABLE'],
    ['EAI_AGAIN', 'NET_UNREACHABLE'],
    ['ENOENT', 'STATE_NOT_FOUND'],
    ['EACCES', 'STORAGE_FAILED'],
    ['EBADF', 'BUG_UNEXPECTED'],
  ])('with system code %s is %s', (systemCode, code) => {
    const error = Object.assign(new Error('it failed'), { code: systemCode });
    expect(toLatchkeyError(error)).toMatchObject({ code, cause: error });
    expect(systemErrorCode(error)).toBe(systemCode);
  });

  test.each([
    ['/nonexistent/file', 'STATE_NOT_FOUND', 'no such file or directory: /nonexistent/file'],
    ['/dev/null/file', 'STORAGE_FAILED', 'not a directory: /dev/null/file'],
    [`/${'x'.repeat(300)}`, 'STORAGE_FAILED', `name too long: /${'x'.repeat(300)}`],
  ])('by the file system says in words what happened and what to do (%#)', async (path, code, message) => {
    const thrown: unknown = await writeFile(path, '').catch((error: unknown) => error);
    const error = toLatchkeyError(thrown);
    expect(error).toMatchObject({ code, message });
    expect(error.hint).toEqual(expect.stringMatching(/path$/));
  });

  test('by a full SQLite database says that the disk is full', () => {
    const database = new DatabaseSync(':memory:');
    database.exec('PRAGMA max_page_count = 2; CREATE TABLE t (x)');
    let thrown: unknown;
    try {
      database.prepare('INSERT INTO t VALUES (zeroblob(100000))').run();
    } catch (error) {
      thrown = error;
    }
    expect(toLatchkeyError(thrown).code).toBe('STORAGE_FULL');
  });

  test('by an abort is an interruption', async () => {
    const signal = AbortSignal.abort();
    const thrown: unknown = await writeFile('/dev/null', '', { signal }).catch((error: unknown) => error);
    expect(toLatchkeyError(thrown).code).toBe('INTERRUPTED');
  });
});
