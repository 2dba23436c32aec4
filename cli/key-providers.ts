/** External key providers, as the configuration that all ocicrypt tools share names them. */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readBoundedFile } from '#src/base/bounded-file.ts';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';
import { MAX_PROVIDER_CONFIG_BYTES } from '#src/base/limits.ts';
import type { KeyUnwrapper, KeyWrapper } from '#src/keywrap/key-wrapper.ts';
import { type ProviderConfig, parseProviderConfig } from '#src/keywrap/provider-config.ts';
import { type KeyProvider, createProviderUnwrapper, createProviderWrapper } from '#src/keywrap/provider.ts';
import type { ProviderArgument } from '#src/keywrap/recipient.ts';
import { type CommandContext, childEnvironment } from './context.ts';

const CONFIG_VARIABLE = 'OCICRYPT_KEYPROVIDER_CONFIG';

/** True when the user has a configuration: a configured provider is asked even when no key is given. */
export function hasProviderConfig(context: CommandContext): boolean {
  return configPath(context) !== undefined;
}

/**
 * The recipients that are key providers.
 * @throws LatchkeyError CONFIG_INVALID, STATE_NOT_FOUND
 */
export async function providerWrappers(
  context: CommandContext,
  recipients: readonly ProviderArgument[],
): Promise<{ readonly wrappers: readonly KeyWrapper[]; readonly ids: readonly string[] }> {
  if (recipients.length === 0) return { wrappers: [], ids: [] };
  const config = await readConfig(context);
  return {
    wrappers: recipients.map(({ name, parameter }) =>
      createProviderWrapper(configured(context, config, name), parameter),
    ),
    ids: recipients.map(({ name, parameter }) =>
      createHash('sha256').update(`provider:${name}:${parameter}`).digest('hex'),
    ),
  };
}

/**
 * All configured key providers. An image's annotations choose among them; a key that names one only adds a parameter.
 * @throws LatchkeyError CONFIG_INVALID, STATE_NOT_FOUND
 */
export async function providerUnwrappers(
  context: CommandContext,
  keys: readonly ProviderArgument[],
): Promise<readonly KeyUnwrapper[]> {
  const config = await optionalConfig(context, keys.length > 0);
  const given = keys.map(({ name, parameter }) =>
    createProviderUnwrapper(configured(context, config, name), parameter),
  );
  const others = [...config.keys()].filter((name) => keys.every((key) => key.name !== name));
  return [
    ...given,
    ...others.map((name) => createProviderUnwrapper(configured(context, config, name), undefined)),
  ];
}

function configured(context: CommandContext, config: ProviderConfig, name: string): KeyProvider {
  const transport = config.get(name);
  if (transport !== undefined) {
    return { name, transport, environment: childEnvironment(context), signal: context.signal };
  }
  const names = [...config.keys()].map((known) => JSON.stringify(known)).join(', ');
  throw new LatchkeyError('CONFIG_INVALID', `no key provider ${JSON.stringify(name)} is configured`, {
    hint: `${CONFIG_VARIABLE} names a file with ${names === '' ? 'no providers' : names}`,
  });
}

/** As for peers a file that is not there holds no providers; who asks for one is told. */
async function optionalConfig(context: CommandContext, isNeeded: boolean): Promise<ProviderConfig> {
  const path = configPath(context);
  if (!isNeeded && (path === undefined || !existsSync(path))) return new Map();
  return readConfig(context);
}

async function readConfig(context: CommandContext): Promise<ProviderConfig> {
  const path = configPath(context);
  if (path === undefined) {
    throw new LatchkeyError('CONFIG_INVALID', 'no key providers are configured', {
      hint: `${CONFIG_VARIABLE}=FILE names their configuration, as for skopeo`,
    });
  }
  let bytes: Uint8Array | undefined;
  try {
    bytes = await readBoundedFile(path, MAX_PROVIDER_CONFIG_BYTES);
  } catch (error) {
    if (!['ENOENT', 'EACCES', 'EISDIR', 'ENOTDIR'].includes(systemErrorCode(error) ?? '')) throw error;
    throw new LatchkeyError('CONFIG_INVALID', `the key provider configuration ${path} cannot be read`, {
      hint: `mend ${CONFIG_VARIABLE}, or unset it`,
      cause: error,
    });
  }
  if (bytes !== undefined) return parseProviderConfig(bytes, path);
  throw new LatchkeyError(
    'CONFIG_INVALID',
    `the key provider configuration ${path} is larger than ${MAX_PROVIDER_CONFIG_BYTES} bytes`,
    { hint: `mend ${CONFIG_VARIABLE}, or unset it` },
  );
}

function configPath(context: CommandContext): string | undefined {
  const path = context.env[CONFIG_VARIABLE];
  return path === '' ? undefined : path;
}
