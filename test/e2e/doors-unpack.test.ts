/**
 * Every way to the plaintext of a layer that does not lead through our snapshotter, tried by somebody with all of
 * containerd's API: before there is a license, with one, and after its revocation. What is refused without a license is
 * refused with one as well, unless an unpacking is under way (see doors-race.test.ts).
 */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Descriptor } from '#src/oci/descriptor.ts';
import { digestHex, parseDigest } from '#src/oci/digest.ts';
import { openLayout } from '#src/store/layout.ts';
import { filesContaining } from '../../lab/site.ts';
import { ContainerdConnection } from '../../shim/containerd/connection.ts';
import { describeOnEachContainerd } from './each-containerd.ts';
import { CONTACT, GatedSite, SECRET, refusalOf, toldOnce, until } from './gated-site.ts';

const run = promisify(execFile);
/** Debian's `nobody`. */
const NOBODY = 65_534;
const PHASES = ['before a license', 'with a license', 'after a revocation'] as const;

describeOnEachContainerd('doors around the snapshotter', (containerd) => {
  let gated: GatedSite;
  let connection: ContainerdConnection;
  let manifest: { digest: string; layers: Descriptor[] };
  let secretLayerBlob: string;

  beforeAll(async () => {
    gated = await GatedSite.start({ containerd });
    connection = new ContainerdConnection(gated.site.containerd.address);
    const document = await openLayout(gated.site.layout('acme')).readManifest('1');
    const { layers } = JSON.parse(Buffer.from(document.bytes).toString()) as { layers: Descriptor[] };
    manifest = { digest: document.descriptor.digest, layers };
    expect((await gated.ctr('content', 'fetch', '--plain-http', gated.image)).status).toBe(0);
    const hex = digestHex(parseDigest(layers[1]!.digest));
    secretLayerBlob = join(gated.site.containerd.root, 'io.containerd.content.v1.content/blobs/sha256', hex);
  });
  afterAll(async () => {
    connection.close();
    await gated.stop();
  });

  const reach: Readonly<Record<(typeof PHASES)[number], () => Promise<void>>> = {
    'before a license': () => Promise.resolve(),
    'with a license': async () => {
      await gated.activate();
      expect((await gated.pullWithCtr()).status).toBe(0);
      expect((await gated.runWithCtr('licensed')).output).toContain(SECRET);
    },
    'after a revocation': async () => {
      await gated.revokeAll();
      await until(async () =>
        (await gated.agent.status()).licenses.every(({ state }) => state === 'DENIED_LICENSE_REVOKED'),
      );
    },
  };

  function expectRefusal(text: string): void {
    expect(text).toContain('DENIED_FOREIGN_UNPACK');
    expect(text).toContain(CONTACT);
    expect(text).not.toContain(SECRET);
  }

  async function expectNothingOnDisk(): Promise<void> {
    expect(await filesContaining([gated.site.directory], SECRET)).toEqual([]);
  }

  /** Every snapshotter that this containerd could load here. */
  async function otherSnapshotters(): Promise<string[]> {
    const { output } = await gated.ctr('plugins', 'list');
    const rows = output.split('\n').map((line) => line.trim().split(/\s+/));
    return rows.flatMap(([type, name, , status]) =>
      type === 'io.containerd.snapshotter.v1' && status === 'ok' && name !== 'latchkey' ? [name!] : [],
    );
  }

  /** The processor's program as containerd starts it, on pipes, with a layer on its input; gives what it has said. */
  async function runProcessor(directory: string): Promise<string> {
    const script = [
      'mkfifo "$3/messages"; cat "$3/messages" &',
      'cat "$1" | "$2" 2>"$3/messages" | cat >"$3/plaintext"; wait',
    ];
    const { paths } = gated.site.agent;
    const command = ['-c', script.join('\n'), 'sh', secretLayerBlob, paths.processorProgram, directory];
    return (await run('/bin/sh', command)).stdout;
  }

  describe.each(PHASES)('%s', (phase) => {
    beforeAll(async () => {
      await reach[phase]();
    });

    test('no other snapshotter that containerd has gets a layer', async () => {
      const others = await otherSnapshotters();
      expect(others).toEqual(expect.arrayContaining(['native', 'overlayfs']));
      for (const [index, snapshotter] of others.entries()) {
        const id = `${phase.replaceAll(' ', '-')}-${index}`;
        expectRefusal(await toldOnce(async () => (await gated.runWithCtr(id, snapshotter)).output));
        const unpacked = await gated.ctr(
          ...['snapshots', '--snapshotter', snapshotter, 'unpack', manifest.digest],
        );
        expect(unpacked.status).not.toBe(0);
        expect(unpacked.output).not.toContain(SECRET);
      }
      await expectNothingOnDisk();
    });

    test('the content store holds ciphertext only', async () => {
      for (const { digest } of manifest.layers.slice(1)) {
        const { status, output } = await gated.ctr('content', 'get', digest);
        expect(status).toBe(0);
        expect(output).not.toContain(SECRET);
      }
      await expectNothingOnDisk();
    });

    test('Diff.Apply onto mounts of the caller gives nothing', async () => {
      const target = join(gated.site.directory, 'loot');
      await mkdir(target, { recursive: true });
      const { diff } = connection.clients;
      for (const layer of manifest.layers.slice(1)) {
        const request = {
          diff: { mediaType: layer.mediaType, digest: layer.digest, size: layer.size, annotations: {} },
          mounts: [{ type: 'bind', source: target, target: '', options: ['rw', 'rbind'] }],
          payloads: {},
        };
        const refusal = refusalOf(connection.call(diff.apply.bind(diff), request, 'default'));
        expectRefusal(await refusal);
      }
      await expectNothingOnDisk();
      await rm(target, { recursive: true });
    });

    test('the processor started by hand gives nothing', async () => {
      const directory = await mkdtemp(join(gated.site.directory, 'by-hand-'));
      expectRefusal(await runProcessor(directory));
      expect((await stat(join(directory, 'plaintext'))).size).toBe(0);
    });

    test('who is not root reaches no socket and no file of the agent', async () => {
      const { paths } = gated.site.agent;
      const places = [paths.agentSocket, paths.snapshotterSocket, paths.processorSocket];
      const directories = [paths.memoryDirectory, paths.diskDirectory, paths.identityDirectory];
      const script = `for (const path of process.argv.slice(1)) {
        const socket = require('node:net').connect(path, () => console.log('connected to ' + path));
        socket.on('error', (error) => console.log(error.code));
      }`;
      const asNobody = { uid: NOBODY, gid: NOBODY, cwd: '/' };
      const { stdout } = await run(process.execPath, ['-e', script, ...places], asNobody);
      expect(stdout.trim().split('\n')).toEqual(places.map(() => 'EACCES'));
      for (const directory of directories) {
        await expect(run('/bin/ls', [directory], asNobody)).rejects.toThrow('Permission denied');
      }
    });
  });
});
