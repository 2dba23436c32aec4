import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '#src/base/clock.ts';
import { leaseClaimsSchema } from '#src/licensing/lease-claims.ts';
import { HostLimit } from '#src/registry/host-limit.ts';
import { run } from '../../cli/main.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { type LicensedNode, activateNode } from '../fakes/licensed-node.ts';
import { type SoldProduct, adminClient, auditLog, createSoldProduct } from '../fakes/sold-product.ts';

let server: TestKeyServer;
let sold: SoldProduct;
let node: LicensedNode;

beforeAll(async () => {
  server = await startKeyServer();
  sold = await createSoldProduct(server);
  node = await activateNode(server, (await sold.sell()).licenseKey);
});

afterAll(async () => {
  node.close();
  await server.dispose();
});

async function latchkey(...args: string[]) {
  const written = { stdout: '', stderr: '' };
  const status = await run(args, {
    stdout: { write: (text) => (written.stdout += text) },
    stderr: { write: (text) => (written.stderr += text) },
    env: { LATCHKEY_SERVER: server.adminUrl, LATCHKEY_TOKEN: server.adminToken },
    clock: systemClock,
    hostLimit: new HostLimit(1),
    signal: new AbortController().signal,
  });
  return { status, ...written };
}

describe('withdrawing a release', () => {
  it('ends leases for its images, once, and is in the audit log', async () => {
    const { lease } = await node.acquire(sold.image);
    const payload = Buffer.from(lease.split('.')[1] ?? '', 'base64url').toString();
    const { leaseId } = leaseClaimsSchema.parse(JSON.parse(payload));
    const release = (await sold.client.releases()).find(
      ({ imageKeyId }) => imageKeyId === sold.image.imageKeyId,
    );
    if (release === undefined) throw new Error('the release is not listed');
    const last = (await auditLog(sold.client)).at(-1)?.sequence;

    const yanked = await latchkey('release', 'yank', release.id);
    expect(yanked).toMatchObject({ status: 0, stdout: `release ${release.id} is YANKED\n` });
    expect((await latchkey('release', 'yank', release.id)).status).toBe(0);
    await expect(node.acquire(sold.image)).rejects.toMatchObject({ code: 'DENIED_IMAGE_YANKED' });
    expect((await node.renew([leaseId])).results[0]).toMatchObject({
      outcome: { $case: 'denial', value: { code: 'DENIED_IMAGE_YANKED' } },
    });
    const events = await auditLog(sold.client, last);
    expect(events.filter(({ action }) => action === 'release.yank')).toHaveLength(1);
    expect((await latchkey('release', 'list')).stdout).toMatch(new RegExp(`${release.id}.*YANKED`));
  });

  it.each([
    ['an id of something else', 'lic_1', 'USAGE_INVALID', 2],
    ['an unknown id', 'rel_1', 'STATE_NOT_FOUND', 66],
  ])('says in one line: %s', async (_name, id, code, status) => {
    const result = await latchkey('release', 'yank', id);
    expect(result.stderr).toMatch(new RegExp(`^latchkey: ${code}: [^\\n]+; [^\\n]+\\n$`, 'u'));
    expect(result.status).toBe(status);
  });

  it('is not for release tokens', async () => {
    const { token } = await sold.client.createToken({ name: 'ci', permissionSet: 'release' });
    const [release] = await sold.client.releases();
    await expect(adminClient(server, token).yankRelease(release?.id ?? '')).rejects.toMatchObject({
      code: 'AUTH_FORBIDDEN',
    });
  });
});
