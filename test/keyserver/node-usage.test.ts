/** Usage that nodes report: on meters of their own licenses, if the vendor has opened them, and each report once. */
import { Metadata } from '@grpc/grpc-js';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AgentService } from '#src/wire/generated/latchkey/agent.ts';
import { callUnary } from '#src/wire/unary.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { type AgentServiceParts, agentService } from '../../shim/agent/agent-service.ts';
import { AgentNode } from '../fakes/agent-node.ts';
import { runLatchkey } from '../fakes/command-line.ts';
import { serveOnSocket } from '../fakes/grpc-server.ts';
import { type LicensedNode, activateNode } from '../fakes/licensed-node.ts';
import { type SoldProduct, auditLog, createSoldProduct } from '../fakes/sold-product.ts';
import { temporaryDirectory } from '../fakes/temporary-directory.ts';

const METER = 'pages';
const directory = temporaryDirectory();
let server: TestKeyServer;
let sold: SoldProduct;
const nodes: LicensedNode[] = [];

beforeAll(async () => {
  server = await startKeyServer();
  sold = await createSoldProduct(server);
});

afterAll(async () => {
  for (const node of nodes) node.close();
  await server.dispose();
});

/** A license with a meter that is open to nodes. */
async function sellMetered() {
  const { license, licenseKey } = await sold.sell();
  await sold.client.metering.setMeter(license.id, METER, { max: 100, isOpenToNodes: true });
  return { licenseId: license.id, licenseKey };
}

async function activate(...[key, options]: [string, Parameters<typeof activateNode>[2]?]) {
  const node = await activateNode(server, key, options);
  nodes.push(node);
  return node;
}

const used = async (licenseId: string) => (await sold.client.metering.meters(licenseId))[0]?.used;
const refusal = (report: Promise<unknown>) =>
  report.then(
    () => 'counted',
    (error: unknown) => (error as { code: string }).code,
  );

describe('a report of a node', () => {
  it('counts once, however often it comes, and another node has ids of its own', async () => {
    const { licenseId, licenseKey } = await sellMetered();
    const [node, other] = [await activate(licenseKey), await activate(licenseKey, { name: 'node-2' })];
    const report = { meter: METER, reportId: 'r1', amount: 30 };
    const first = await node.reportUsage(report);
    expect(first).toMatchObject({ licenseId, total: 30 });
    expect(first.revision).toBe((await sold.client.organization()).revision);
    const again = await Promise.all(Array.from({ length: 6 }, () => node.reportUsage(report)));
    expect(new Set(again.map(({ total }) => total))).toEqual(new Set([30]));
    expect(await other.reportUsage({ ...report, licenseId })).toMatchObject({ total: 60 });
    expect(await refusal(node.reportUsage({ ...report, amount: 31 }))).toBe('STATE_CONFLICT');
    expect(await used(licenseId)).toBe(60);
    const actors = [node, other].map(({ activation }) => `node:${activation.nodeId}`);
    const ids = [node, other].map(({ activation }) => `${activation.nodeId}:r1`);
    const reports = await sold.client.metering.usageReports(licenseId);
    expect(reports.map(({ reportId }) => reportId)).toEqual(ids);
    const events = (await auditLog(sold.client)).filter(({ action }) => action === 'meter.report');
    expect(events.slice(-2).map(({ actor, target }) => [actor, target])).toEqual(
      actors.map((actor) => [actor, licenseId]),
    );
  });

  it('is a fact, though the license is suspended; a banned node has no say', async () => {
    const { licenseId, licenseKey } = await sellMetered();
    const node = await activate(licenseKey);
    await sold.client.changeLicense(licenseId, 'suspend');
    expect((await node.reportUsage({ meter: METER, reportId: 'r1', amount: 200 })).total).toBe(200);
    await sold.client.changeNode(node.activation.nodeId, 'ban');
    const next = { meter: METER, reportId: 'r2', amount: 1 };
    expect(await refusal(node.reportUsage(next))).toBe('DENIED_NODE_BANNED');
    expect(await used(licenseId)).toBe(200);
  });

  it('needs a meter of a license of its own that is open to nodes', async () => {
    const { licenseId: foreign } = await sellMetered();
    const { license, licenseKey } = await sold.sell();
    const node = await activate(licenseKey);
    const report = { meter: METER, reportId: 'r1', amount: 1 };
    const none = 'STATE_NOT_FOUND';
    expect(await refusal(node.reportUsage(report))).toBe(none);
    expect(await refusal(node.reportUsage({ ...report, licenseId: foreign }))).toBe(none);
    expect(await refusal(node.reportUsage({ ...report, licenseId: 'lic_none' }))).toBe(none);
    const { metering } = sold.client;
    expect((await metering.setMeter(license.id, METER, { max: null })).isOpenToNodes).toBe(false);
    expect(await refusal(node.reportUsage(report))).toBe(none);
    await metering.setMeter(license.id, METER, { max: null, isOpenToNodes: true });
    expect((await metering.setMeter(license.id, METER, { max: 5 })).isOpenToNodes).toBe(true);
    expect(await refusal(node.reportUsage(report))).toBe('counted');
    await metering.setMeter(license.id, METER, { max: 5, isOpenToNodes: false });
    expect(await refusal(node.reportUsage(report))).toBe(none);
    expect([await used(license.id), await used(foreign)]).toEqual([1, 0]);
  });

  it('says whose meter it is, where several licenses of the node have one', async () => {
    const { licenseId, licenseKey } = await sellMetered();
    const second = await sellMetered();
    const node = await activate(licenseKey);
    await activate(second.licenseKey, { key: node.key });
    const report = { meter: METER, reportId: 'r1', amount: 1 };
    expect(await refusal(node.reportUsage(report))).toBe('STATE_CONFLICT');
    expect(await node.reportUsage({ ...report, licenseId })).toMatchObject({ licenseId, total: 1 });
    expect(await used(second.licenseId)).toBe(0);
  });

  it.each([
    { amount: 0 },
    { amount: -1 },
    { amount: 1e13 },
    { reportId: '' },
    { reportId: 'a b' },
    { reportId: 'x'.repeat(129) },
    { meter: '' },
    { meter: 'NO' },
  ])('is refused when it is malformed: %j', async (wrong) => {
    const [node] = nodes;
    const report = { meter: METER, reportId: 'odd', amount: 1, ...wrong };
    expect(await refusal(node!.reportUsage(report))).toBe('INPUT_MALFORMED');
  });

  it('does not come from a copy that stands in an older session', async () => {
    const { licenseKey } = await sellMetered();
    const node = await activate(licenseKey);
    const request = { requestId: 'r1', machine: 'm', boot: 'b', bootTimeMs: 1, seenRevision: 0 };
    const opened = await callUnary(
      node.client.openSession.bind(node.client),
      { ...request, isRunning: false, position: { sequence: 0, token: '', counter: 0 } },
      new Metadata(),
      { deadline: Date.now() + 60_000 },
    );
    const report = { meter: METER, reportId: 'r1', amount: 1 };
    expect(await refusal(node.reportUsage(report))).toBe('STATE_SESSION_STALE');
    const position = { sequence: opened.sequence, token: opened.token, counter: 0 };
    expect(await refusal(node.reportUsage({ ...report, position }))).toBe('counted');
  });
});

it('goes from the command over the agent to the key server', async () => {
  const { licenseId, licenseKey } = await sellMetered();
  const node = await AgentNode.start({ directory: directory(), keyServer: server });
  const service = agentService({ agent: node.agent } as unknown as AgentServiceParts);
  const socket = await serveOnSocket(join(directory(), 'agent.sock'), [[AgentService, service]]);
  const report = (...args: string[]) =>
    runLatchkey(['node', 'report-usage', '--socket', socket.socketPath, ...args], { directory: directory() });
  try {
    expect(await report(METER, '7')).toMatchObject({
      status: 77,
      stderr: expect.stringContaining('DENIED_NODE_NOT_ACTIVATED') as string,
    });
    await node.agent.activate(licenseKey);
    const counted = { status: 0, stdout: `${METER}: 7 used under license ${licenseId}\n` };
    const first = ['7', '--report-id', '2026-11-30T10'];
    expect(await report(METER, ...first)).toMatchObject(counted);
    expect(await report(METER, ...first, '--license', licenseId)).toMatchObject(counted);
    expect(JSON.parse((await report(METER, '3', '--json')).stdout)).toMatchObject({ licenseId, total: 10 });
    expect(await used(licenseId)).toBe(10);
    expect(await report('other', '3')).toMatchObject({
      status: 66,
      stderr: expect.stringContaining('--from-nodes') as string,
    });
    expect(await report(METER, '0')).toMatchObject({ status: 2 });
    expect(await report(METER, '1', '--report-id', 'a b')).toMatchObject({ status: 2 });
  } finally {
    node.stop();
    socket.close();
  }
  expect(await report(METER, '1', '--report-id', 'again')).toMatchObject({
    stderr: expect.stringContaining('repeat it with --report-id again') as string,
  });
});
