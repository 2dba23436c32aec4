import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { digestOf } from '#src/oci/digest.ts';
import { LicensedImages } from '../../../shim/agent/licensed-images.ts';
import { LeaseIssuer } from '../../fakes/lease-issuer.ts';
import { manualClock } from '../../fakes/manual-clock.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const directory = temporaryDirectory();
const one = { imageDigest: digestOf('one'), imageKeyId: 'key-1' };
const two = { imageDigest: digestOf('two'), imageKeyId: 'key-2' };

function claims(subject: typeof one, licenseId = 'lic-1', onRevoke: 'stop' | 'kill' = 'stop') {
  return { ...new LeaseIssuer(manualClock()).claims(subject), licenseId, onRevoke };
}

function open(): LicensedImages {
  return new LicensedImages(join(directory(), 'licensed-images.json'));
}

describe('the list of licensed images', () => {
  test('is there again after a restart, readable by its owner only', async () => {
    open().record(claims(one));
    expect(open().of(one)).toMatchObject({ licenseId: 'lic-1', onRevoke: 'stop' });
    expect((await stat(join(directory(), 'licensed-images.json'))).mode & 0o777).toBe(0o600);
  });

  test('knows the newest license of an image only', () => {
    const images = open();
    images.record(claims(one));
    images.record(claims(two));
    images.record(claims(one, 'lic-2', 'kill'));
    expect(images.of(one)).toMatchObject({ licenseId: 'lic-2', onRevoke: 'kill' });
    expect(
      open()
        .ofLicense('lic-1')
        .map(({ imageKeyId }) => imageKeyId),
    ).toEqual(['key-2']);
  });

  test('forgets what is not needed', () => {
    const images = open();
    images.record(claims(one));
    images.record(claims(two));
    images.retain(({ imageKeyId }) => imageKeyId === 'key-2');
    expect(open().of(one)).toBeUndefined();
    expect(open().of(two)).toBeDefined();
  });

  test.each(['', 'not json', '{"images":[{}]}', '[]'])('is empty when its file says %j', async (text) => {
    await writeFile(join(directory(), 'licensed-images.json'), text);
    const images = open();
    expect(images.of(one)).toBeUndefined();
    images.record(claims(one));
    expect(await readFile(join(directory(), 'licensed-images.json'), 'utf8')).toContain('lic-1');
  });
});
