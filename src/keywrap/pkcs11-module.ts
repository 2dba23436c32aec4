/**
 * Which shared library a PKCS#11 URI means, and whether it may be loaded. A URI could name any library, and loading one
 * runs its code: as in ocicrypt, only what `ocicrypt.conf` allows is loaded.
 */
import { readdir, stat } from 'node:fs/promises';
import { join, normalize } from 'node:path';
import { LatchkeyError } from '#src/base/errors.ts';
import type { Pkcs11ModulePolicy } from './pkcs11-files.ts';
import type { Pkcs11Uri } from './pkcs11-uri.ts';

const MULTIARCH: Readonly<Record<string, string>> = { x64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' };

/** What `OCICRYPT_CONFIG=internal` allows: the directories in which distributions keep modules. */
export function internalModulePolicy(architecture: string): Pkcs11ModulePolicy {
  const directories = [
    '/usr/lib64/pkcs11/',
    '/usr/lib/pkcs11/',
    '/usr/local/lib/pkcs11/',
    '/usr/lib/softhsm/',
    ...(MULTIARCH[architecture] === undefined ? [] : [`/usr/lib/${MULTIARCH[architecture]}/`]),
  ];
  return { directories, allowedPaths: directories };
}

/** True when the policy names the file itself or the directory it is in. */
export function isModuleAllowed(policy: Pkcs11ModulePolicy, path: string): boolean {
  return policy.allowedPaths.some((allowed) => {
    if (!allowed.endsWith('/')) return normalize(allowed) === path;
    const directory = normalize(allowed);
    return path.startsWith(directory) && !path.slice(directory.length).includes('/');
  });
}

/**
 * Finds the module's file.
 * @throws LatchkeyError KEY_NOT_FOUND when there is none, AUTH_FORBIDDEN when it may not be loaded
 */
export async function findPkcs11Module(uri: Pkcs11Uri, policy: Pkcs11ModulePolicy): Promise<string> {
  const found = await locate(uri, policy);
  if (found === undefined) {
    const named = JSON.stringify(uri.modulePath ?? uri.moduleName);
    throw new LatchkeyError('KEY_NOT_FOUND', `there is no PKCS#11 module ${named}`, {
      hint: 'give module-path=/path/of/module.so, or name its directory in module-directories of ocicrypt.conf',
    });
  }
  if (isModuleAllowed(policy, found)) return found;
  throw new LatchkeyError('AUTH_FORBIDDEN', `the PKCS#11 module ${found} is not allowed`, {
    hint: 'name it in allowed-module-paths of ocicrypt.conf',
  });
}

/** A module-path may also be a directory, in which the module is looked for by its name (RFC 7512 section 2.3). */
async function locate(
  { modulePath, moduleName = '' }: Pkcs11Uri,
  policy: Pkcs11ModulePolicy,
): Promise<string | undefined> {
  if (modulePath === undefined) return moduleIn(policy.directories, moduleName);
  const path = normalize(modulePath);
  return (await isFile(path)) ? path : moduleIn([path], moduleName);
}

async function isFile(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isFile();
  } catch {
    return false;
  }
}

/** `softhsm2` means libsofthsm2.so and libsofthsm2.so.1; `softhsm` means neither. */
async function moduleIn(directories: readonly string[], moduleName: string): Promise<string | undefined> {
  if (!/^[A-Za-z0-9_.-]+$/.test(moduleName)) return undefined;
  const fileName = new RegExp(`^(?:lib)?${moduleName.replaceAll('.', '\\.')}(?:\\.so(?:\\.\\d+)*)?$`, 'i');
  for (const directory of directories) {
    // Most of the directories exist on other distributions only.
    const files = await readdir(directory).catch(() => []);
    const file = files.find((candidate) => fileName.test(candidate));
    if (file !== undefined) return join(directory, file);
  }
  return undefined;
}
