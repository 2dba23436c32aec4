/** The eight steps of the demo. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { parseReference } from '#src/oci/reference.ts';
import { openRegistry } from '#src/registry/registry-store.ts';
import { copyImage } from '#src/store/copy.ts';
import { openLayout } from '#src/store/layout.ts';
import type { LabContainerd } from '../../lab/containerd.ts';
import type { CriClient } from '../../lab/cri-client.ts';
import { writeImage } from '../../lab/image-builder.ts';
import { PACKAGE_CACHE, SLEEP_COMMAND, filesContaining } from '../../lab/site.ts';
import { type AcmeImage, buildAcmeImage } from './acme-image.ts';
import type { CommandLine } from './command-line.ts';
import { freePort } from '../../lab/free-port.ts';
import type { DemoWorld } from './demo-world.ts';
import type { Narrator } from './narrator.ts';

const PRODUCT = 'route-planner';

interface Stage {
  readonly world: DemoWorld;
  readonly narrator: Narrator;
  readonly commandLine: CommandLine;
  readonly containerd: LabContainerd;
  readonly cri: CriClient;
  readonly image: string;
  readonly acme: AcmeImage;
  readonly port: number;
}

/** Tells the story; throws where reality does not follow it. */
export async function runStory(world: DemoWorld, narrator: Narrator): Promise<void> {
  narrator.say(`Everything below lives in ${world.directory} and is removed at the end.`);
  const port = await freePort();
  const { acme, host } = await buildAndPush(world, narrator, port);
  narrator.step('Start the key server; create a product, a customer and a license');
  const { commandLine, endpoints } = await world.startKeyServer();
  await commandLine.show('product', 'create', PRODUCT, '--name', 'Acme Route Planner');
  await commandLine.show('customer', 'create', 'Initech');
  const first = await createLicense(commandLine, narrator);
  const image = await encrypt(commandLine, narrator, host);
  narrator.step('Start the node: the agent, and a containerd set up by its installer');
  await world.startAgent(endpoints);
  const { containerd, cri } = await world.startContainerd(`${host}/pause:1`);
  narrator.good(
    `containerd ${await containerd.version()} uses the latchkey snapshotter and stream processor`,
  );
  const stage = { world, narrator, commandLine, containerd, cri, image, acme, port };
  await refuseWithoutLicense(stage);
  await runWithLicense(stage, first.licenseKey);
  await revoke(stage, first.license.id);
  await startUnderNewLicense(stage);
  narrator.end('The image ran only while a license allowed it.');
}

async function buildAndPush(
  world: DemoWorld,
  narrator: Narrator,
  port: number,
): Promise<{ acme: AcmeImage; host: string }> {
  narrator.step('Build a real image from Debian packages and push it to a local registry');
  const acme = await buildAcmeImage(join(world.directory, 'build'), PACKAGE_CACHE, port);
  const layers = [acme.base, acme.web, acme.acme];
  const layout = openLayout(join(world.directory, 'layout'));
  await mkdir(join(world.directory, 'layout'), { recursive: true });
  await writeImage(layout, 'pause', { layers: [acme.base], command: SLEEP_COMMAND });
  await writeImage(layout, 'base', { layers: [acme.base], command: SLEEP_COMMAND });
  await writeImage(layout, 'planner', { layers, command: acme.command });
  for (const [name, layer] of [
    ['base: libc, busybox', acme.base],
    ['nginx', acme.web],
    ['Acme, proprietary', acme.acme],
  ] as const) {
    narrator.say(
      `layer ${layer.digest.slice(0, 19)} ${String(layer.bytes.length).padStart(8)} bytes  ${name}`,
    );
  }
  const { host } = await world.startRegistry();
  for (const [tag, target] of [
    ['pause', 'pause:1'],
    ['base', 'base:1'],
    ['planner', 'planner:1.0-plain'],
  ] as const) {
    await copyImage(layout, openRegistry(parseReference(`${host}/${target}`)), {
      reference: tag,
      tag: target.split(':')[1],
    });
  }
  narrator.good(`pushed ${host}/planner:1.0-plain to Debian's docker-registry`);
  return { acme, host };
}

async function createLicense(
  commandLine: CommandLine,
  narrator: Narrator,
): Promise<{ license: { id: string }; licenseKey: string }> {
  const created = await commandLine.json<{ license: { id: string }; licenseKey: string }>(
    'license',
    'create',
    ...['--customer', 'Initech', '--product', PRODUCT, '--contact', 'sales@acme.example'],
  );
  narrator.quote(`license ${created.license.id}\nkey     ${created.licenseKey}  (shown once)`);
  return created;
}

async function encrypt(commandLine: CommandLine, narrator: Narrator, host: string): Promise<string> {
  narrator.step('Encrypt the nginx and Acme layers for the product; the base stays plain');
  const image = `${host}/planner:1.0`;
  await commandLine.show(
    'encrypt',
    `${host}/planner:1.0-plain`,
    image,
    '--product',
    PRODUCT,
    '--base',
    `${host}/base:1`,
  );
  await commandLine.show('inspect', image);
  return image;
}

async function refuseWithoutLicense({ narrator, cri, image }: Stage): Promise<void> {
  narrator.step('Without a license: pull it as a kubelet does');
  narrator.quote(await refusal(() => cri.pullImage(image)));
  narrator.good('refused; this is the text that kubectl describe pod shows');
}

async function runWithLicense(stage: Stage, licenseKey: string): Promise<void> {
  const { world, narrator, commandLine, cri, image, acme } = stage;
  narrator.step('Activate the node with the license key, and start it');
  await commandLine.show('node', 'activate', licenseKey);
  await cri.pullImage(image);
  const pod = await cri.runPod('planner', image);
  await expectPage(stage);
  const searched = ['containerd', 'node'].map((name) => join(world.directory, name));
  const found = await filesContaining(searched, acme.secret);
  if (found.length > 0) throw new Error(`the secret is on the disk: ${found.join(', ')}`);
  const control = await filesContaining(searched, 'BusyBox v1.');
  if (control.length === 0) throw new Error('the search does not find what is there');
  narrator.good(`grep for Acme's secret in all files of containerd and the agent: 0 hits`);
  narrator.say(
    `(the same search finds the plain base layer's busybox in ${control.length} place, so it does look)`,
  );
  await commandLine.show('node', 'status');
  await cri.removePod(pod.sandboxId);
}

async function revoke(stage: Stage, licenseId: string): Promise<void> {
  const { narrator, commandLine, containerd, cri, image } = stage;
  narrator.step('Revoke the license: the image is pulled and unpacked on the node, and yet');
  await commandLine.show('license', 'revoke', licenseId, '--reason', 'contract ended');
  const revokedMs = performance.now();
  const text = await refusal(() => cri.runPod('planner-revoked', image));
  narrator.quote(text);
  narrator.good(
    `the next start is refused, ${Math.round(performance.now() - revokedMs)} ms after the revocation`,
  );
  await cri.pullImage(image);
  await refusal(() => cri.runPod('planner-repulled', image));
  narrator.good('pulling it again does not help');
  for (const snapshotter of ['overlayfs', 'native']) {
    const { status, output } = await containerd.ctr(
      ['run', '--rm', '--net-host', '--snapshotter', snapshotter, image, `with-${snapshotter}`],
      'k8s.io',
    );
    if (status === 0) throw new Error(`ctr run --snapshotter ${snapshotter} started the image`);
    narrator.good(`ctr run --snapshotter ${snapshotter} does not help: ${lastDenial(output)}`);
  }
  const renamed = image.replace('planner:1.0', 'innocent:latest');
  await containerd.ctr(['images', 'tag', image, renamed], 'k8s.io');
  const { status, output } = await containerd.ctr(
    ['run', '--rm', '--net-host', '--snapshotter', 'latchkey', renamed, 'renamed'],
    'k8s.io',
  );
  if (status === 0) throw new Error('the renamed image started');
  narrator.good(`a new tag does not help: ${lastDenial(output)}`);
}

async function startUnderNewLicense(stage: Stage): Promise<void> {
  const { narrator, commandLine, cri, image } = stage;
  narrator.step('A new license brings it back; the audit log tells it all');
  const { licenseKey } = await createLicense(commandLine, narrator);
  await commandLine.show('node', 'activate', licenseKey);
  const pod = await cri.runPod('planner-again', image);
  await expectPage(stage);
  await cri.removePod(pod.sandboxId);
  await commandLine.show('audit', 'verify');
}

/** Asks nginx for Acme's page until it answers; a server needs a moment to listen. */
async function expectPage({ narrator, acme, port }: Stage): Promise<void> {
  const url = `http://127.0.0.1:${port}/`;
  for (let attempt = 0; ; attempt += 1) {
    try {
      const page = await (await fetch(url)).text();
      if (!page.includes(acme.secret)) throw new Error(`unexpected page: ${page}`);
      narrator.command(`curl ${url}`);
      narrator.quote(page);
      narrator.good(`the container runs: ${acme.headline}`);
      return;
    } catch (error) {
      if (attempt === 100) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

async function refusal(call: () => Promise<unknown>): Promise<string> {
  try {
    await call();
  } catch (error) {
    const text = error instanceof Error && 'details' in error ? String(error.details) : String(error);
    if (!text.includes('DENIED_')) throw error;
    return text;
  }
  throw new Error('this should have been refused');
}

function lastDenial(output: string): string {
  return /DENIED_[A-Z_]+: [^"\n]*/.exec(output)?.[0] ?? output.trim();
}
