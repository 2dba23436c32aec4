import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { digestOf } from '#src/oci/digest.ts';
import { parseReference } from '#src/oci/reference.ts';
import { HostLimit } from '#src/registry/host-limit.ts';
import { openRegistry } from '#src/registry/registry-store.ts';
import type { RegistryRequest, RegistryResponse } from '#src/registry/transport.ts';
import { startFakeRegistry } from '../fakes/registry.ts';

function request(host: string): RegistryRequest {
  return { method: 'GET', url: new URL(`http://${host}/`), scopes: [] };
}

test('at most so many requests to a host are under way, failures included, and all get their turn', async () => {
  const underWay = new Map<string, number>();
  const peaks = new Map<string, number>();
  let done = 0;
  const transport = new HostLimit(2).around(async ({ url }): Promise<RegistryResponse> => {
    const count = (underWay.get(url.host) ?? 0) + 1;
    underWay.set(url.host, count);
    peaks.set(url.host, Math.max(peaks.get(url.host) ?? 0, count));
    await new Promise((resolve) => setImmediate(resolve));
    underWay.set(url.host, (underWay.get(url.host) ?? 0) - 1);
    if ((done += 1) % 3 === 0) throw new Error('lost');
    return { status: 200, headers: new Headers(), url, bytes: new Uint8Array() };
  });
  const all = Array.from({ length: 20 }, (_, index) => transport(request(index % 4 === 0 ? 'b' : 'a')));
  const results = await Promise.allSettled(all);
  expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(14);
  expect(Object.fromEntries(peaks)).toEqual({ a: 2, b: 2 });
});

test('images of one command share the bound', async () => {
  const registry = await startFakeRegistry();
  let underWay = 0;
  let peak = 0;
  registry.misbehaviours.push(async () => {
    peak = Math.max(peak, (underWay += 1));
    await sleep(5);
    underWay -= 1;
    return false;
  });
  const hostLimit = new HostLimit(3);
  const stores = ['from', 'to'].map((name) =>
    openRegistry(parseReference(`${registry.host}/${name}:v1`), { hostLimit }),
  );
  const digest = digestOf('missing');
  const blob = { mediaType: 'application/json', digest, size: 7 };
  await Promise.all(stores.flatMap((store) => Array.from({ length: 8 }, () => store.hasBlob(blob))));
  expect(peak).toBe(3);
  await registry.stop();
});
