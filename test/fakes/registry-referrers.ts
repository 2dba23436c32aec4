/** The referrers API for the fake registry: what newer registries add to the old protocol. */
import { referrerIn } from '#src/store/referrers.ts';
import { digestOf } from '#src/oci/digest.ts';
import type { FakeRegistry } from './registry.ts';

export interface FakeReferrersOptions {
  /** Entries per page; all on one when left out. */
  readonly pageSize?: number;
  /** False for a registry that ignores `artifactType`. */
  readonly filters?: boolean;
}

/** Teaches a registry to list referrers. */
export function addReferrersApi(registry: FakeRegistry, options: FakeReferrersOptions = {}): void {
  registry.misbehaviours.push(({ method, url }, response) => {
    if (method === 'PUT' && url.pathname.includes('/manifests/')) {
      response.setHeader('oci-subject', 'sha256:of-what-was-put');
      return false;
    }
    const [, name, subject] = /^\/v2\/(.+)\/referrers\/(.+)$/.exec(url.pathname) ?? [];
    if (name === undefined) return false;
    const asked = options.filters === false ? null : url.searchParams.get('artifactType');
    const found = [...registry.manifests].flatMap(([key, { mediaType, bytes }]) => {
      if (!key.startsWith(`${name}@sha256:`)) return [];
      const descriptor = { mediaType, digest: digestOf(bytes), size: bytes.length };
      const referrer = referrerIn({ descriptor, bytes });
      const isAsked =
        referrer?.subject === subject &&
        (asked ?? referrer?.descriptor.artifactType) === referrer?.descriptor.artifactType;
      return isAsked && referrer !== undefined ? [referrer.descriptor] : [];
    });
    const start = Number(url.searchParams.get('from') ?? 0);
    const end = start + (options.pageSize ?? found.length);
    if (end < found.length) {
      const next = new URL(url);
      next.searchParams.set('from', String(end));
      response.setHeader('link', `<${next.pathname}${next.search}>; rel="next"`);
    }
    response.writeHead(200, { 'content-type': 'application/vnd.oci.image.index.v1+json' });
    response.end(JSON.stringify({ schemaVersion: 2, manifests: found.slice(start, end) }));
    return true;
  });
}
