import { expect, test } from 'vitest';
import { withHostLimit } from '#src/registry/host-limit.ts';
import type { RegistryRequest, RegistryResponse } from '#src/registry/transport.ts';

function request(host: string): RegistryRequest {
  return { method: 'GET', url: new URL(`http://${host}/`), scopes: [] };
}

test('at most so many requests to a host are under way, failures included, and all get their turn', async () => {
  const underWay = new Map<string, number>();
  const peaks = new Map<string, number>();
  let done = 0;
  const transport = withHostLimit(async ({ url }): Promise<RegistryResponse> => {
    const count = (underWay.get(url.host) ?? 0) + 1;
    underWay.set(url.host, count);
    peaks.set(url.host, Math.max(peaks.get(url.host) ?? 0, count));
    await new Promise((resolve) => setImmediate(resolve));
    underWay.set(url.host, (underWay.get(url.host) ?? 0) - 1);
    if ((done += 1) % 3 === 0) throw new Error('lost');
    return { status: 200, headers: new Headers(), url, bytes: new Uint8Array() };
  }, 2);
  const all = Array.from({ length: 20 }, (_, index) => transport(request(index % 4 === 0 ? 'b' : 'a')));
  const results = await Promise.allSettled(all);
  expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(14);
  expect(Object.fromEntries(peaks)).toEqual({ a: 2, b: 2 });
});
