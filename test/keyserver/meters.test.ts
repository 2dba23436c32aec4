/** Metering: reports that count once, meters that only grow, and limits that are seen. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { runLatchkey } from '../fakes/command-line.ts';
import { type SoldProduct, adminClient, auditLog, createSoldProduct } from '../fakes/sold-product.ts';

let server: TestKeyServer;
let sold: SoldProduct;

beforeAll(async () => {
  server = await startKeyServer();
  sold = await createSoldProduct(server);
});

afterAll(() => server.dispose());

async function metered(max: number | null) {
  const { license } = await sold.sell();
  const { metering } = sold.client;
  const meter = await metering.setMeter(license.id, 'api-calls', { max });
  const report = (reportId: string, amount: number) =>
    metering.reportUsage(license.id, 'api-calls', { reportId, amount });
  return { licenseId: license.id, metering, meter, report };
}

describe('a meter', () => {
  it('counts reports, each once, also when it comes again much later or many times at once', async () => {
    const { metering, licenseId, meter, report } = await metered(100);
    expect(meter).toMatchObject({ licenseId, used: 0, max: 100, remaining: 100, isExceeded: false });
    const first = await report('r1', 30);
    expect(first).toMatchObject({ report: { total: 30, amount: 30 }, meter: { used: 30, remaining: 70 } });
    const answers = await Promise.all(Array.from({ length: 8 }, () => report('r2', 20)));
    expect(new Set(answers.map((answer) => answer.report.id)).size).toBe(1);
    const again = await report('r1', 30);
    expect(again.report).toEqual(first.report);
    expect(again.meter).toMatchObject({ used: 50, remaining: 50 });
    expect((await metering.meters(licenseId)).map(({ used }) => used)).toEqual([50]);
  });

  it('counts all of what many report at once', async () => {
    const { metering, licenseId, report } = await metered(null);
    await Promise.all(Array.from({ length: 40 }, (_, index) => report(`r${index}`, index + 1)));
    expect((await metering.meters(licenseId))[0]).toMatchObject({ used: 820, max: null, remaining: null });
    const reports = await metering.usageReports(licenseId, { meter: 'api-calls' });
    expect(reports.reduce((sum, { amount }) => sum + amount, 0)).toBe(820);
    expect(Math.max(...reports.map(({ total }) => total))).toBe(820);
    await metering.setMeter(licenseId, 'other', { max: null });
    expect(await metering.usageReports(licenseId, { meter: 'other' })).toEqual([]);
    await expect(metering.usageReports(licenseId, { meter: 'api-call' })).rejects.toMatchObject({
      code: 'STATE_NOT_FOUND',
    });
    expect((await metering.usageReports(licenseId, { order: 'desc', limit: 3 })).length).toBe(3);
  });

  it('refuses the id of a report for another amount, and counts nothing', async () => {
    const { metering, licenseId, report } = await metered(null);
    await report('r1', 5);
    await expect(report('r1', 6)).rejects.toMatchObject({ code: 'STATE_CONFLICT' });
    expect((await metering.meters(licenseId))[0]?.used).toBe(5);
  });

  it('never goes back, and counts beyond what was sold, which it says', async () => {
    const { metering, licenseId, report } = await metered(10);
    for (const amount of [0, -1, 1.5, 1e13]) {
      await expect(report('r0', amount)).rejects.toMatchObject({ code: 'USAGE_INVALID' });
    }
    expect((await report('r1', 10)).meter).toMatchObject({ remaining: 0, isExceeded: false });
    expect((await report('r2', 1)).meter).toMatchObject({ used: 11, remaining: 0, isExceeded: true });
    expect(await metering.setMeter(licenseId, 'api-calls', { max: 20 })).toMatchObject({
      used: 11,
      remaining: 9,
      isExceeded: false,
    });
    expect((await metering.setMeter(licenseId, 'api-calls', { max: null })).max).toBeNull();
  });

  it('is of one license: a report id is free on another meter and another license', async () => {
    const [one, other] = [await metered(null), await metered(null)];
    await one.metering.setMeter(one.licenseId, 'storage', { max: null });
    await one.report('same', 1);
    await one.metering.reportUsage(one.licenseId, 'storage', { reportId: 'same', amount: 2 });
    await other.report('same', 3);
    expect((await one.metering.meters(one.licenseId)).map(({ name, used }) => [name, used])).toEqual([
      ['api-calls', 1],
      ['storage', 2],
    ]);
    expect((await other.metering.meters(other.licenseId))[0]?.used).toBe(3);
  });

  it('has to be there first, with a name that is one', async () => {
    const { metering, licenseId } = await metered(null);
    const report = { reportId: 'r', amount: 1 };
    await expect(metering.reportUsage(licenseId, 'unknown', report)).rejects.toMatchObject({
      code: 'STATE_NOT_FOUND',
    });
    await expect(metering.reportUsage('lic_none', 'api-calls', report)).rejects.toMatchObject({
      code: 'STATE_NOT_FOUND',
    });
    await expect(metering.setMeter('lic_none', 'api-calls', { max: 1 })).rejects.toMatchObject({
      code: 'STATE_NOT_FOUND',
    });
    await expect(metering.setMeter(licenseId, 'No Name', { max: 1 })).rejects.toMatchObject({
      code: 'USAGE_INVALID',
    });
  });

  it('is in the audit log of its license', async () => {
    const { licenseId, report } = await metered(7);
    await report('r1', 2);
    await report('r1', 2);
    const events = (await auditLog(sold.client)).filter(({ target }) => target === licenseId);
    expect(events.map(({ action, detail }) => [action, detail])).toMatchObject([
      ['license.create', {}],
      ['meter.set', { meter: 'api-calls', max: 7 }],
      ['meter.report', { meter: 'api-calls', reportId: 'r1', amount: 2, total: 2 }],
    ]);
  });
});

it('a token for metering reports for its customer, and can do nothing else', async () => {
  const foreign = await createSoldProduct(server);
  const { license: foreignLicense } = await foreign.sell();
  await foreign.client.metering.setMeter(foreignLicense.id, 'api-calls', { max: null });
  const { licenseId } = await metered(null);
  const { token } = await sold.client.createToken({
    name: 'backend',
    permissionSet: 'metering',
    customer: sold.customerId,
  });
  const client = adminClient(server, token);
  const report = { reportId: 'r', amount: 1 };
  expect((await client.metering.reportUsage(licenseId, 'api-calls', report)).meter.used).toBe(1);
  await expect(client.metering.reportUsage(foreignLicense.id, 'api-calls', report)).rejects.toMatchObject({
    code: 'STATE_NOT_FOUND',
  });
  await expect(client.metering.setMeter(licenseId, 'api-calls', { max: 1 })).rejects.toMatchObject({
    code: 'AUTH_FORBIDDEN',
  });
  await expect(client.changeLicense(licenseId, 'suspend')).rejects.toMatchObject({ code: 'AUTH_FORBIDDEN' });
});

it('shows in the commands', async () => {
  const { licenseId, report } = await metered(5);
  await report('r1', 6);
  const env = { LATCHKEY_SERVER: server.adminUrl, LATCHKEY_TOKEN: server.adminToken };
  const license = async (...args: string[]) =>
    runLatchkey(['license', ...args], { directory: server.dataDirectory, env });
  expect((await license('meters', licenseId)).stdout).toMatch(/^api-calls +6 +5 +exceeded +-$/mu);
  expect((await license('show', licenseId)).stdout).toMatch(/^used +api-calls: 6 of 5$/mu);
  expect((await license('usage', licenseId)).stdout).toMatch(/api-calls +6 +6 +r1$/mu);
  expect((await license('meter', licenseId, 'api-calls', '--max', '9')).stdout).toMatch(
    /^api-calls +6 +9 +3 +-$/mu,
  );
  expect((await license('meter', licenseId, 'api-calls', '--max', '9', '--from-nodes')).stdout).toMatch(
    /^api-calls +6 +9 +3 +yes$/mu,
  );
  expect(await license('meter', licenseId, 'api-calls')).toMatchObject({ status: 2, stdout: '' });
});
