/**
 * Latchkey as the key provider of stock tools: Debian 13's skopeo, buildah and podman encrypt with `latchkey keyprovider`
 * and decrypt with the agent of a licensed node, against a real key server.
 */
import { existsSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { platformImages, readImageGraph } from '#src/image/image-graph.ts';
import { digestHex, digestOf } from '#src/oci/digest.ts';
import { openLayout } from '#src/store/layout.ts';
import type { LabContainerd } from '../../lab/containerd.ts';
import { CriClient } from '../../lab/cri-client.ts';
import { stopAll } from '../../lab/stop-all.ts';
import { CONTACT, PRODUCT, SECRET, refusalOf, until } from '../e2e/gated-site.ts';
import { auditLog } from '../fakes/sold-product.ts';
import { ProviderSite, providerSkipReason } from './provider-site.ts';

const skipReason = providerSkipReason();
const KEY = ['--decryption-key', 'provider:latchkey'];

describe.skipIf(skipReason !== undefined)(`stock tools ${skipReason ?? ''}`, () => {
  let site: ProviderSite;
  let stock: LabContainerd;
  let stockCri: CriClient;
  let image: string;
  let licenseId: string;

  beforeAll(async () => {
    site = await ProviderSite.start();
    image = await site.releaseWithSkopeo('app');
    stock = await site.startStockContainerd();
    stockCri = new CriClient(stock.address);
  });
  afterAll(async () => {
    stockCri.close();
    await stopAll(
      () => stock.stop(),
      () => site.stop(),
    );
  });

  const copyOut = (transport: 'cmd' | 'grpc', name: string, from = image) =>
    site.tool(transport, 'skopeo', 'copy', ...KEY, `docker://${from}`, `oci:${site.at(name)}:1`);

  async function checkContent(name: string): Promise<void> {
    const [found] = platformImages(await readImageGraph(openLayout(site.at(name)), '1'));
    for (const [position, { digest }] of found!.manifest.layers.entries()) {
      const bytes = await readFile(join(site.at(name), 'blobs', 'sha256', digestHex(digest)));
      expect(digestOf(gunzipSync(bytes))).toBe(found!.diffIds[position]);
    }
  }

  /** The last lease decision in the key server's audit log. */
  async function lastDecision() {
    const events = await auditLog(site.gated.site.api);
    return events.findLast(({ action }) => action === 'lease.acquire');
  }

  describe('at release', () => {
    test('an image key is for its owner alone, and is removed once it is registered', async () => {
      const key = site.at('once.key');
      await site.latchkey('image-key', 'create', '--product', PRODUCT, '--out', key);
      expect((await stat(key)).mode & 0o777).toBe(0o600);
      const again = site.latchkey('image-key', 'create', '--product', PRODUCT, '--out', key);
      await expect(again).rejects.toThrow('STATE_CONFLICT');
      expect(existsSync(site.at('app.key'))).toBe(false);
    });

    test('registering twice is harmless, registering something else is refused', async () => {
      const key = site.at('twice.key');
      await site.latchkey('image-key', 'create', '--product', PRODUCT, '--out', key);
      const target = site.gated.site.reference('twice');
      const encryption = ['--encryption-key', `provider:latchkey:image-key=${key}`];
      const plain = await site.plainImage('twice');
      await site.tool('cmd', 'skopeo', 'copy', ...encryption, plain, `docker://${target}`);
      const register = async (what: string, ...more: string[]) =>
        site.latchkey('release', 'register', '--image-key', key, ...more, await site.pinned(what));
      await expect(register(image)).rejects.toThrow('is not encrypted with image key');
      await expect(register(site.gated.site.reference('plain'))).rejects.toThrow('is not encrypted');
      const first = await register(target, '--keep', '--json');
      expect(JSON.parse(await register(target, '--json'))).toEqual(JSON.parse(first));
      expect(existsSync(key)).toBe(false);
      await expect(register(target)).rejects.toThrow('STATE_NOT_FOUND');
    });

    test.each([
      ['provider:latchkey', /image-key=FILE/],
      ['provider:latchkey:image-key=/nowhere/key', /STATE_NOT_FOUND: there is no image key file/],
      ['provider:latchkey:image-key=/etc/passwd', /KEY_INVALID/],
    ])('%s is explained to the user of skopeo', async (recipient, message) => {
      const target = `oci:${site.at('none')}:1`;
      const plain = `oci:${site.at('app')}:1`;
      const { status, output } = await site.tool(
        ...(['cmd', 'skopeo', 'copy', '--encryption-key', recipient, plain, target] as const),
      );
      expect(status).not.toBe(0);
      expect(output).toMatch(message);
    });

    test('a node does not wrap', async () => {
      const recipient = 'provider:latchkey:image-key=x';
      const { output } = await site.tool(
        ...(['grpc', 'skopeo', 'copy', '--encryption-key', recipient] as const),
        `oci:${site.at('app')}:1`,
        `oci:${site.at('none')}:1`,
      );
      expect(output).toContain('latchkey keyprovider');
    });
  });

  describe('without a license', () => {
    test.each(['cmd', 'grpc'] as const)(
      'nothing is opened over %s, and the reason is told',
      async (transport) => {
        const { status, output } = await copyOut(transport, `unlicensed-${transport}`);
        expect(status).not.toBe(0);
        expect(output).toContain('DENIED_NODE_NOT_ACTIVATED');
        expect(output).toContain(CONTACT);
      },
    );
  });

  test("a stock containerd cannot pull without a license either, and the agent's log tells the reason", async () => {
    // containerd often loses what ctd-decoder has said, and then speaks of a wrong diff ID.
    expect(await refusalOf(stockCri.pullImage(image))).toMatch(/DENIED_NODE_NOT_ACTIVATED|wrong diff id/);
    const refusals = (await site.gated.site.agent.log())
      .split('\n')
      .filter((line) => line.includes('layer key refused'));
    expect(refusals.at(-1)).toContain('DENIED_NODE_NOT_ACTIVATED');
  });

  describe('with a license', () => {
    beforeAll(async () => {
      licenseId = (await site.gated.activate()).license.id;
    });

    test.each(['cmd', 'grpc'] as const)('skopeo decrypts over %s', async (transport) => {
      const { status, output } = await copyOut(transport, `licensed-${transport}`);
      expect(output).not.toContain('DENIED');
      expect(status).toBe(0);
      await checkContent(`licensed-${transport}`);
    });

    test('the audit log says that it was by key provider', async () => {
      expect(await lastDecision()).toMatchObject({
        outcome: 'allowed',
        target: expect.stringMatching(/^sha256:/) as string,
        detail: { by: 'key-provider', licenseId },
      });
      const { leases } = await site.gated.agent.status();
      expect(leases).toHaveLength(1);
      expect(leases[0]).toMatchObject({ imageDigest: expect.stringMatching(/^sha256:/) as string });
    });

    test('skopeo decrypts what `latchkey encrypt` has made', async () => {
      expect((await copyOut('grpc', 'ours', site.gated.image)).status).toBe(0);
      await checkContent('ours');
    });

    test('and so does `latchkey decrypt`, which then has the same content', async () => {
      await site.latchkey('decrypt', `docker://${image}`, `oci:${site.at('own')}:1`);
      await checkContent('own');
      const layers = async (name: string) => {
        const graph = await readImageGraph(openLayout(site.at(name)), '1');
        return platformImages(graph).flatMap(({ manifest }) => manifest.layers.map(({ digest }) => digest));
      };
      expect(await layers('own')).toEqual(await layers('licensed-grpc'));
    });

    test.each(['buildah', 'podman'] as const)(
      '%s pulls, encrypts for a release, and a gated node runs it',
      async (tool) => {
        const pulled = await site.tool('grpc', tool, 'pull', ...KEY, image);
        expect(pulled.output).not.toContain('DENIED');
        expect(pulled.status).toBe(0);
        const key = site.at(`${tool}.key`);
        const target = site.gated.site.reference(`by-${tool}`);
        await site.latchkey('image-key', 'create', '--product', PRODUCT, '--out', key);
        const encryption = ['--encryption-key', `provider:latchkey:image-key=${key}`];
        const pushed = await site.tool('cmd', tool, 'push', ...encryption, image, `docker://${target}`);
        expect(pushed.status).toBe(0);
        await site.latchkey('release', 'register', '--image-key', key, await site.pinned(target));
        expect((await site.gated.pullWithCtr('latchkey', target)).status).toBe(0);
        const { status, output } = await site.gated.runWithCtr(`by-${tool}`, 'latchkey', target);
        expect(status).toBe(0);
        expect(output).toContain(`${SECRET} one`);
      },
    );

    test('a stock containerd pulls through ctd-decoder, and runs it', async () => {
      await stockCri.pullImage(image);
      const pod = await stockCri.runPod('stock', image);
      const { output } = await stockCri.execSync(pod.containerId, ['/bin/busybox', 'cat', '/app/one.txt']);
      expect(output).toContain(`${SECRET} one`);
      await stockCri.removePod(pod.sandboxId);
    });

    test('a gated node runs what skopeo encrypted', async () => {
      expect((await site.gated.pullWithCtr('latchkey', image)).status).toBe(0);
      const { status, output } = await site.gated.runWithCtr('by-skopeo', 'latchkey', image);
      expect(status).toBe(0);
      expect(output).toContain(`${SECRET} one`);
      expect((await lastDecision())?.detail).not.toHaveProperty('by');
    });
  });

  describe('after revocation', () => {
    beforeAll(async () => {
      await site.gated.revokeAll();
      await until(async () => {
        const { licenses } = await site.gated.agent.status();
        return licenses.every(({ state }) => state === 'DENIED_LICENSE_REVOKED');
      });
    });

    test.each(['cmd', 'grpc'] as const)(
      'skopeo gets nothing more over %s, and its user is told why',
      async (transport) => {
        const { status, output } = await copyOut(transport, `revoked-${transport}`);
        expect(status).not.toBe(0);
        expect(output).toContain('DENIED_LICENSE_REVOKED');
        expect(output).toContain(licenseId);
        expect(output).toContain(CONTACT);
      },
    );

    test('podman neither', async () => {
      const { status, output } = await site.tool('grpc', 'podman', 'pull', ...KEY, image);
      expect(status).not.toBe(0);
      expect(output).toContain('DENIED_LICENSE_REVOKED');
    });

    test('the audit log has the refusal', async () => {
      expect(await lastDecision()).toMatchObject({
        outcome: 'denied',
        code: 'DENIED_LICENSE_REVOKED',
        detail: { by: 'key-provider', licenseId },
      });
    });

    test('what they had decrypted before is still there and still starts: the gate is not theirs', async () => {
      await checkContent('licensed-grpc');
      const pod = await stockCri.runPod('stock-again', image);
      await stockCri.removePod(pod.sandboxId);
      expect(await refusalOf(site.gated.site.cri.runPod('gated', site.gated.image))).toMatch(
        /not found|DENIED/,
      );
      const { output } = await site.tool('grpc', 'podman', 'images');
      expect(output).toContain('app');
    });
  });
});
