/**
 * Why there is a gate: the same steps on a stock containerd with the peers' decoder and on one with ours. The key is taken
 * away after one pull; stock starts the image all the same, by every way, and has its plaintext on the disk. On 2.x the
 * stock one is given `use_local_image_pull`, without which it hands its decoder nothing and pulls nothing.
 */
import { execFile } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { LabContainerd } from '../../lab/containerd.ts';
import { CriClient } from '../../lab/cri-client.ts';
import { peerTool, peerToolsSkipReason } from '../../lab/peer-tools.ts';
import { filesContaining } from '../../lab/site.ts';
import { stopAll } from '../../lab/stop-all.ts';
import { describeOnEachContainerd } from './each-containerd.ts';
import { GatedSite, SECRET, refusalOf, releaseSecretImage, secretLayer, until } from './gated-site.ts';

const run = promisify(execFile);
const skipReason = peerToolsSkipReason('skopeo', 'ctd-decoder');
const TWIN = 'twin';
const catOf = (layer: string) => ['/bin/busybox', 'cat', `/app/${layer}.txt`];
const CAT = catOf('one');

describeOnEachContainerd('a key that is taken away after one pull', (containerd) => {
  describe.skipIf(skipReason !== undefined)(`stock starts, ours refuses ${skipReason ?? ''}`, () => {
    let gated: GatedSite;
    let stock: LabContainerd;
    let stockCri: CriClient;
    let stockImage: string;
    let stockTwin: string;
    let keyDirectory: string;

    beforeAll(async () => {
      gated = await GatedSite.start({ containerd });
      const { site } = gated;
      keyDirectory = join(site.directory, 'keys');
      await releaseSecretImage(site, TWIN, [secretLayer(TWIN)]);
      await site.push(`${TWIN}-plain`, '1');
      const publicFile = await createKeyPair();
      stockImage = await encryptWithSkopeo('acme-plain', publicFile);
      stockTwin = await encryptWithSkopeo(`${TWIN}-plain`, publicFile);
      const decoder = (type: string) => ({
        accepts: [`application/vnd.oci.image.layer.v1.${type}+encrypted`],
        returns: `application/vnd.oci.image.layer.v1.${type}`,
        path: peerTool('ctd-decoder'),
        args: ['--decryption-keys-path', keyDirectory],
      });
      stock = new LabContainerd({
        directory: join(site.directory, 's'),
        sandboxImage: site.reference('pause'),
        streamProcessors: {
          'io.containerd.ocicrypt.decoder.v1.tar.gzip': decoder('tar+gzip'),
          'io.containerd.ocicrypt.decoder.v1.tar': decoder('tar'),
        },
        version: containerd,
      });
      await stock.start();
      stockCri = new CriClient(stock.address);
      await gated.activate();
      for (const [cri, image] of [
        [stockCri, stockImage],
        [site.cri, gated.image],
      ] as const) {
        await cri.pullImage(image);
        expect(await show(cri, image, 'before')).toContain(SECRET);
      }
      await rm(join(keyDirectory, 'private.pem'));
      await gated.revokeAll();
      await until(async () => (await gated.agent.status()).licenses.every(({ state }) => state !== 'ACTIVE'));
    });
    afterAll(async () => {
      stockCri.close();
      await stopAll(
        () => stock.stop(),
        () => gated.stop(),
      );
    });

    /** The private key is where the decoder finds it; gives the file of the public one. */
    async function createKeyPair(): Promise<string> {
      const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
      await mkdir(keyDirectory);
      const publicFile = join(gated.site.directory, 'public.pem');
      await writeFile(publicFile, publicKey.export({ type: 'spki', format: 'pem' }));
      const pem = privateKey.export({ type: 'pkcs8', format: 'pem' });
      await writeFile(join(keyDirectory, 'private.pem'), pem);
      return publicFile;
    }

    /** As the peers' documentation does it: to a public key, over the same plain image. */
    async function encryptWithSkopeo(layout: string, publicFile: string): Promise<string> {
      const policy = join(gated.site.directory, 'policy.json');
      await writeFile(policy, '{"default":[{"type":"insecureAcceptAnything"}]}');
      const image = gated.site.reference(`${layout}-by-skopeo`);
      await run(peerTool('skopeo'), [
        ...['--policy', policy, 'copy', '--dest-tls-verify=false', '--encryption-key', `jwe:${publicFile}`],
        ...[`oci:${gated.site.layout(layout)}:1`, `docker://${image}`],
      ]);
      return image;
    }

    /** What a new pod shows of the secret. */
    async function show(cri: CriClient, image: string, name: string, command = CAT): Promise<string> {
      const pod = await cri.runPod(name, image);
      const { output } = await cri.execSync(pod.containerId, command);
      await cri.removePod(pod.sandboxId);
      return output;
    }

    test('a new pod', async () => {
      expect(await show(stockCri, stockImage, 'after')).toContain(SECRET);
      expect(await refusalOf(show(gated.site.cri, gated.image, 'after'))).toContain('DENIED_LICENSE_REVOKED');
    });

    test('another pull, and a new pod', async () => {
      await stockCri.pullImage(stockImage);
      expect(await show(stockCri, stockImage, 'pulled')).toContain(SECRET);
      const again = gated.site.cri
        .pullImage(gated.image)
        .then(() => show(gated.site.cri, gated.image, 'pulled'));
      expect(await refusalOf(again)).toContain('DENIED_LICENSE_REVOKED');
    });

    test('ctr run', async () => {
      const log = join(gated.site.directory, 'stock.log');
      const command = [
        'run',
        '--rm',
        '--net-host',
        '--log-uri',
        `file://${log}`,
        stockImage,
        'after',
        ...CAT,
      ];
      expect((await stock.ctr(command, 'k8s.io')).status).toBe(0);
      expect(await readFile(log, 'utf8')).toContain(SECRET);
      await rm(log);
      const ours = ['run', '--rm', '--net-host', '--snapshotter', 'latchkey', gated.image, 'after', ...CAT];
      const { status, output } = await gated.site.containerd.ctr(ours, 'k8s.io');
      expect(status).not.toBe(0);
      expect(output).toContain('DENIED_LICENSE_REVOKED');
    });

    test('the disk', async () => {
      expect(await filesContaining([stock.root], SECRET)).not.toEqual([]);
      const ours = [gated.site.containerd.root, gated.site.agent.stateDirectory];
      expect(await filesContaining(ours, SECRET)).toEqual([]);
    });

    test('a first pull with no key, where the same layers are there in the clear', async () => {
      await expect(stockCri.pullImage(stockTwin)).rejects.toThrow();
      await stockCri.pullImage(gated.site.reference(`${TWIN}-plain`));
      await stockCri.pullImage(stockTwin);
      expect(await show(stockCri, stockTwin, TWIN, catOf(TWIN))).toContain(SECRET);
      const { cri } = gated.site;
      await cri.pullImage(gated.site.reference(`${TWIN}-plain`));
      const ours = gated.site.reference(TWIN);
      expect(await refusalOf(cri.pullImage(ours))).toContain('DENIED_LICENSE_REVOKED');
    });
  });
});
