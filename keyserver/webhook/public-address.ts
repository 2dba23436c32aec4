/**
 * Addresses that a webhook may be sent to: those of the internet, so that nobody has the key server speak to the network that
 * it is in (server-side request forgery). A name is resolved once, and what was checked is what is connected to.
 */
import { lookup } from 'node:dns';
import { BlockList, type LookupFunction, isIP } from 'node:net';
import { LatchkeyError } from '#src/base/errors.ts';

/** What is not globally reachable unicast (IANA special-purpose registries), or leads to IPv4 addresses that are not. */
const NOT_PUBLIC: readonly (readonly [network: string, prefix: number])[] = [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 3],
];
/** The one block that IPv6 addresses of the internet are from, and what in it is not of the internet. */
const GLOBAL_UNICAST = ['2000::', 3] as const;
const NOT_PUBLIC_IPV6: readonly (readonly [network: string, prefix: number])[] = [
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['3fff::', 20],
];

const notPublic = new BlockList();
for (const [network, prefix] of NOT_PUBLIC) notPublic.addSubnet(network, prefix, 'ipv4');
for (const [network, prefix] of NOT_PUBLIC_IPV6) notPublic.addSubnet(network, prefix, 'ipv6');
const globalUnicast = new BlockList();
globalUnicast.addSubnet(...GLOBAL_UNICAST, 'ipv6');

/** True for an address of the internet. */
export function isPublicAddress(address: string): boolean {
  const family = isIP(address);
  if (family === 4) return !notPublic.check(address, 'ipv4');
  return family === 6 && globalUnicast.check(address, 'ipv6') && !notPublic.check(address, 'ipv6');
}

/**
 * Refuses a URL that is not https, or whose host is an address that is not of the internet; names are looked at when they
 * are resolved.
 * @throws LatchkeyError USAGE_INVALID
 */
export function requirePublicUrl({ protocol, hostname }: URL): void {
  if (protocol !== 'https:') {
    throw new LatchkeyError('USAGE_INVALID', 'webhooks are sent over https only', {
      hint: 'give an https:// address, or start the key server with --webhook-allow-private',
    });
  }
  const address = hostname.replace(/^\[|\]$/g, '');
  if (isIP(address) !== 0 && !isPublicAddress(address)) throw notAllowed('USAGE_INVALID', address);
}

/** Resolves a name as the system does, and fails when one of its addresses is not of the internet. */
export const publicLookup: LookupFunction = (hostname, options, callback) => {
  lookup(hostname, { ...options, all: true }, (error, addresses) => {
    if (error !== null) {
      callback(error, '');
      return;
    }
    const wrong = addresses.find(({ address }) => !isPublicAddress(address));
    const [first] = addresses;
    if (first === undefined || wrong !== undefined)
      callback(notAllowed('NET_UNREACHABLE', wrong?.address ?? hostname), '');
    else if (options.all === true) callback(null, addresses);
    else callback(null, first.address, first.family);
  });
};

function notAllowed(code: 'USAGE_INVALID' | 'NET_UNREACHABLE', address: string): LatchkeyError {
  return new LatchkeyError(code, `${address} is not an address of the internet`, {
    hint: 'if it is meant, start the key server with --webhook-allow-private',
  });
}
