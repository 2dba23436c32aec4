/** The image of the demo, from Debian packages: a base, a web server, and what Acme wants to protect. */
import { randomBytes } from 'node:crypto';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { unpackDebianPackages } from '../../lab/debian-files.ts';
import { type BuiltLayer, layerFromDirectory } from '../../lab/layer-archive.ts';

const BASE_PACKAGES = ['libc6', 'busybox-static'];
const WEB_PACKAGES = ['nginx', 'nginx-common', 'libcrypt1', 'libpcre2-8-0', 'libssl3', 'zlib1g'];

export interface AcmeImage {
  readonly base: BuiltLayer;
  readonly web: BuiltLayer;
  readonly acme: BuiltLayer;
  /** A text that is in Acme's files and nowhere else. */
  readonly secret: string;
  /** A sentence of the page that Acme's server shows. */
  readonly headline: string;
  readonly command: readonly string[];
}

/**
 * Builds the three layers.
 * @param port on which nginx listens, on the loopback of the host's network
 */
export async function buildAcmeImage(
  directory: string,
  cacheDirectory: string,
  port: number,
): Promise<AcmeImage> {
  const secret = `ACME-ROUTE-PLANNER-${randomBytes(12).toString('hex')}`;
  const headline = 'Acme Route Planner';
  const base = join(directory, 'base');
  await unpackDebianPackages(BASE_PACKAGES, cacheDirectory, base);
  await symlink('busybox', join(base, 'bin', 'sh'));
  await writeTree(base, {
    'etc/passwd': 'root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n',
    'etc/group': 'root:x:0:\nnogroup:x:65534:\n',
  });
  await mkdir(join(base, 'tmp'), { recursive: true, mode: 0o777 });
  const web = join(directory, 'web');
  await unpackDebianPackages(WEB_PACKAGES, cacheDirectory, web);
  const acme = join(directory, 'acme');
  await writeTree(acme, {
    'etc/acme/nginx.conf': nginxConfiguration(port),
    'srv/acme/index.html': `<!doctype html><title>${headline}</title><h1>${headline}</h1><p>Build ${secret}</p>\n`,
    'srv/acme/planner.js': `// ${secret}: this took us eleven years.\n`.repeat(400),
  });
  return {
    base: await layerFromDirectory(base),
    web: await layerFromDirectory(web),
    acme: await layerFromDirectory(acme),
    secret,
    headline,
    command: ['/usr/sbin/nginx', '-c', '/etc/acme/nginx.conf'],
  };
}

async function writeTree(root: string, files: Readonly<Record<string, string>>): Promise<void> {
  for (const [path, content] of Object.entries(files)) {
    await mkdir(join(root, path, '..'), { recursive: true });
    await writeFile(join(root, path), content);
  }
}

function nginxConfiguration(port: number): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((kind) => `  ${kind}_temp_path /tmp/${kind};`)
    .join('\n');
  return `daemon off;
user nobody nogroup;
worker_processes 1;
pid /tmp/nginx.pid;
error_log stderr;
events {}
http {
  access_log off;
${temporary}
  server {
    listen 127.0.0.1:${port};
    root /srv/acme;
  }
}
`;
}
