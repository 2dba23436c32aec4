/**
 * Which hosts a registry may send us to. One on the internet may name others on the internet, but not hosts of the network
 * that we are in, neither by address nor by a name that leads there (server-side request forgery).
 */
import { lookup } from 'node:dns/promises';
import { LatchkeyError } from '#src/base/errors.ts';
import { isLinkLocalHost, isPrivateHost } from './endpoint.ts';
import type { Transport } from './transport.ts';

/** All addresses of a host name. */
export type ResolveHost = (hostname: string) => Promise<readonly string[]>;

export const systemResolveHost: ResolveHost = async (hostname) => {
  const found = await lookup(hostname, { all: true });
  return found.map(({ address }) => address);
};

/**
 * A transport that goes to the registry's own host, and from there only where {@link isWithinReach} lets it: for token
 * servers, upload locations and redirects alike. A name is resolved again when it is connected to, so one whose addresses
 * change in between is not stopped here.
 * @throws LatchkeyError NET_REGISTRY
 */
export function withinZone(transport: Transport, origin: URL, resolveHost: ResolveHost): Transport {
  const known = new Map<string, Promise<boolean>>();
  return async (request) => {
    const { hostname, host } = request.url;
    if (hostname === origin.hostname) return transport(request);
    const isAllowed = known.get(hostname) ?? isWithinReach(hostname, origin.hostname, resolveHost);
    known.set(hostname, isAllowed);
    if (await isAllowed) return transport(request);
    throw new LatchkeyError(
      'NET_REGISTRY',
      `${origin.host} sends us to ${host}, which is in a private network`,
      {
        hint: 'nothing was sent there; if that is meant, reach the registry by its address in that network',
      },
    );
  };
}

/** True when a registry at `from` may name the host: private ones only if it is private itself, link-local ones never. */
export async function isWithinReach(
  hostname: string,
  from: string,
  resolveHost: ResolveHost,
): Promise<boolean> {
  const addresses = await addressesOf(hostname, resolveHost);
  if (addresses.some(isLinkLocalHost)) return false;
  if (!addresses.some(isPrivateHost)) return true;
  return isInside(from, resolveHost);
}

/** True for a host in a private network, by address or by a name that leads there. */
export async function isInside(hostname: string, resolveHost: ResolveHost): Promise<boolean> {
  return (await addressesOf(hostname, resolveHost)).some(isPrivateHost);
}

/** The host itself when it has no addresses here, as behind a proxy: then it is the proxy that connects. */
async function addressesOf(hostname: string, resolveHost: ResolveHost): Promise<readonly string[]> {
  if (isPrivateHost(hostname)) return [hostname];
  try {
    const addresses = await resolveHost(hostname.replace(/^\[|\]$/g, ''));
    return addresses.length === 0 ? [hostname] : addresses;
  } catch {
    return [hostname];
  }
}
