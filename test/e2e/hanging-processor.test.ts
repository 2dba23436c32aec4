/** Stream processors in trouble: killed in the middle of a layer, silent, or frozen for good, for which containerd waits for ever. */
import { copyFileSync, readFileSync, readdirSync, readlinkSync, renameSync, statfsSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { layerFromFiles } from '../../lab/layer-archive.ts';
import { describeOnEachContainerd } from './each-containerd.ts';
import { GatedSite, refusalOf, releaseSecretImage, until } from './gated-site.ts';

const MEBIBYTE = 1024 * 1024;
/** Takes containerd long enough that its processor is met in the middle. */
const LAYER_BYTES = 96 * MEBIBYTE;
const NAMES = ['killed', 'silent', 'frozen', 'kept'] as const;
const COMMAND = ['/bin/busybox', 'head', '-c', '4', '/app/large.txt'];

describeOnEachContainerd('a stream processor', (containerd) => {
  let gated: GatedSite;

  beforeAll(async () => {
    gated = await GatedSite.start({ containerd });
    await gated.activate();
    for (const name of NAMES) {
      const content = name.padEnd(16).repeat(LAYER_BYTES / 16);
      await releaseSecretImage(gated.site, name, [
        layerFromFiles([{ path: 'app/large.txt', content }], 'none'),
      ]);
    }
    await gated.site.cri.pullImage(gated.site.reference('plain'));
    await gated.site.cri.pullImage(gated.site.reference('kept'));
  });
  afterAll(async () => {
    await gated.stop();
  });

  function processors(): number[] {
    const { processorProgram } = gated.site.agent.paths;
    return readdirSync('/proc')
      .filter((entry) => /^\d+$/.test(entry))
      .map(Number)
      .filter((processId) => programOf(processId) === processorProgram);
  }

  function storedBytes(): number {
    const { blocks, bfree, bsize } = statfsSync(gated.site.agent.paths.memoryDirectory);
    return (blocks - bfree) * bsize;
  }

  /** Starts something that unpacks a layer, and signals its processor when a part of the layer has come through. */
  async function interrupt(
    begin: () => Promise<unknown>,
    signal: 'SIGSTOP' | 'SIGKILL',
  ): Promise<{ refusal: Promise<string> }> {
    const others = processors();
    const before = storedBytes();
    const refusal = refusalOf(begin());
    // Awaited by the caller, who may come late.
    refusal.catch(() => undefined);
    for (;;) {
      const [processId] = processors().filter((id) => !others.includes(id));
      if (processId !== undefined && storedBytes() > before + MEBIBYTE) {
        process.kill(processId, signal);
        if (signal === 'SIGSTOP') await until(() => Promise.resolve(stateOf(processId) === 'T'));
        return { refusal };
      }
      await nextTurn();
    }
  }

  async function expectStarts(name: string): Promise<void> {
    const pod = await gated.site.cri.runPod(name, gated.site.reference(name));
    expect((await gated.site.cri.execSync(pod.containerId, COMMAND)).output).toBe(name.slice(0, 4));
    await gated.site.cri.removePod(pod.sandboxId);
  }

  test('killed in the middle of a pull: the pull says so, nothing is committed, and the next one works', async () => {
    const image = gated.site.reference('killed');
    const before = (await gated.agent.status()).gatedLayers.length;
    const { refusal } = await interrupt(() => gated.site.cri.pullImage(image), 'SIGKILL');
    expect(await refusal).toContain('STATE_PRECONDITION: the stream processor of a layer was ended');
    expect((await gated.agent.status()).gatedLayers).toHaveLength(before);
    await gated.site.cri.pullImage(image);
    await expectStarts('killed');
  });

  test('that ends well and gives nothing: the pull fails, nothing is committed, and the next one works', async () => {
    const image = gated.site.reference('silent');
    const { processorProgram } = gated.site.agent.paths;
    const before = (await gated.agent.status()).gatedLayers.length;
    renameSync(processorProgram, `${processorProgram}.true`);
    copyFileSync('/bin/true', processorProgram);
    try {
      expect(await refusalOf(gated.site.cri.pullImage(image))).toContain('failed to pull and unpack image');
    } finally {
      renameSync(`${processorProgram}.true`, processorProgram);
    }
    expect((await gated.agent.status()).gatedLayers).toHaveLength(before);
    await gated.site.cri.pullImage(image);
    await expectStarts('silent');
  });

  test('frozen in a pull and in a start: both end and say why, nothing is committed, and the next ones work', async () => {
    const image = gated.site.reference('frozen');
    await gated.agent.dropPlaintext();
    const before = (await gated.agent.status()).gatedLayers;
    expect(before.some(({ plaintextPresent }) => plaintextPresent)).toBe(false);
    const stored = storedBytes();
    const start = await interrupt(
      () => gated.site.cri.runPod('frozen', gated.site.reference('kept')),
      'SIGSTOP',
    );
    // Its layer goes on without it; what is stored after that is the next one's.
    await until(() => Promise.resolve(storedBytes() >= stored + LAYER_BYTES));
    const frozen = [start, await interrupt(() => gated.site.cri.pullImage(image), 'SIGSTOP')];
    for (const { refusal } of frozen) {
      expect(await refusal).toContain(
        'NET_TIMEOUT: the stream processor of a layer did not end and was killed',
      );
    }
    expect((await gated.agent.status()).gatedLayers).toEqual(before);
    expect((await gated.site.agent.log()).split('stream processor killed')).toHaveLength(frozen.length + 1);
    expect(processors()).toEqual([]);
    await expectStarts('kept');
    await gated.site.cri.pullImage(image);
    await expectStarts('frozen');
  });
});

/** Undefined for a process that has ended. */
function programOf(processId: number): string | undefined {
  try {
    return readlinkSync(`/proc/${processId}/exe`);
  } catch {
    return undefined;
  }
}

/** As in proc(5): T is stopped. */
function stateOf(processId: number): string | undefined {
  return / ([A-Z]) \d+ /.exec(readFileSync(`/proc/${processId}/stat`, 'latin1').split(')').at(-1) ?? '')?.[1];
}
