/** Where a registry's API is, and which hosts count as this machine or a private network. */
import { BlockList, isIP } from 'node:net';

/** Docker Hub's name in references is not the host of its API. */
const DOCKER_HUB = 'docker.io';
const DOCKER_HUB_API_HOST = 'registry-1.docker.io';

const LOOPBACK = blockList(['127.0.0.0', 8], ['::1', 128]);
/** Cloud metadata services live here; nothing a registry names ever does. */
const LINK_LOCAL = blockList(['169.254.0.0', 16], ['fe80::', 10]);
const PRIVATE = blockList(
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['172.16.0.0', 12],
  ['192.168.0.0', 16],
  ['::', 128],
  ['fc00::', 7],
);

export interface EndpointOptions {
  /** True: plain HTTP. False: HTTPS even on the loopback. Left out: HTTP for loopback hosts only. */
  readonly allowHttp?: boolean | undefined;
}

/** The origin of a registry's API, `https://registry-1.docker.io` for Docker Hub. */
export function registryOrigin(registry: string, options: EndpointOptions = {}): URL {
  const host = registry === DOCKER_HUB ? DOCKER_HUB_API_HOST : registry;
  const secure = new URL(`https://${host}`);
  const isPlain = options.allowHttp ?? isLoopbackHost(secure.hostname);
  return isPlain ? new URL(`http://${host}`) : secure;
}

/** True for names and addresses of this machine. */
export function isLoopbackHost(hostname: string): boolean {
  const name = hostname.toLowerCase();
  return name === 'localhost' || name.endsWith('.localhost') || contains(LOOPBACK, name);
}

/** True for addresses of one network link, such as a cloud's metadata service. */
export function isLinkLocalHost(hostname: string): boolean {
  return contains(LINK_LOCAL, hostname);
}

/** True for this machine, and for addresses that are not routed on the internet. */
export function isPrivateHost(hostname: string): boolean {
  return isLoopbackHost(hostname) || isLinkLocalHost(hostname) || contains(PRIVATE, hostname);
}

/** Takes a URL's hostname, where IPv6 addresses are in brackets; block lists know IPv4 inside IPv6. */
function contains(list: BlockList, hostname: string): boolean {
  const address = hostname.replace(/^\[|\]$/g, '');
  const family = isIP(address);
  return family !== 0 && list.check(address, family === 6 ? 'ipv6' : 'ipv4');
}

function blockList(...subnets: readonly (readonly [string, number])[]): BlockList {
  const list = new BlockList();
  for (const [network, prefix] of subnets) {
    list.addSubnet(network, prefix, isIP(network) === 6 ? 'ipv6' : 'ipv4');
  }
  return list;
}
