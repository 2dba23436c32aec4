/** Error answers of registries (distribution spec, "Error Codes") as LatchkeyErrors. */
import * as z from 'zod';
import { LatchkeyError } from '#src/base/errors.ts';
import { parseJson, type JsonValue } from '#src/base/json.ts';
import type { RegistryResponse } from './transport.ts';

const errorBodySchema = z.looseObject({
  errors: z.array(z.looseObject({ code: z.string().optional(), message: z.string().optional() })),
});

/**
 * What distribution (2.8) answers to a question for what it was writing down when it was killed: the file of the record
 * is there and empty. A push writes it anew, so the question counts as answered with no.
 */
export const BROKEN_RECORD = 500;

/** A registry's own words are shown, but not a page of them. */
const MAX_SHOWN_CHARACTERS = 200;
// Terminal escapes and line breaks from outside must not reach a terminal or a log.
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu;

/**
 * The error that an unexpected answer means.
 * @param action what was tried, for the message: `read the manifest of docker://host/name`
 * @param registry as `docker login` names it
 */
export function registryError(response: RegistryResponse, action: string, registry: string): LatchkeyError {
  const said = registryMessage(response.bytes);
  const status = `HTTP ${response.status}`;
  const message = `cannot ${action}: ${said === undefined ? status : `${said} (${status})`}`;
  switch (response.status) {
    case 401:
    case 403:
      return unauthorized(message, registry);
    case 404:
      return new LatchkeyError('STATE_NOT_FOUND', message, { hint: 'check the name and the tag' });
    case 413:
      return new LatchkeyError('LIMIT_EXCEEDED', message, {
        hint: 'raise the limit of the registry or its proxy',
      });
    case 429:
      return new LatchkeyError('NET_REGISTRY', message, {
        hint: `${registry} limits the rate of requests; log in or wait, then run the same command again`,
      });
    default:
      return new LatchkeyError('NET_REGISTRY', message, {
        hint: 'if it lasts, ask who runs the registry; run the same command again, what is done is kept',
      });
  }
}

/** Wrong or missing credentials, with where Latchkey looks for them. */
export function unauthorized(message: string, registry: string): LatchkeyError {
  return new LatchkeyError('NET_UNAUTHORIZED', message, {
    hint: `run "docker login ${registry}" or podman login with an account that may do this`,
  });
}

/** The registry's own words, made safe to print; undefined when it said nothing readable. */
function registryMessage(bytes: Uint8Array): string | undefined {
  let body: JsonValue;
  try {
    body = parseJson(bytes, 'the error');
  } catch {
    return undefined;
  }
  const parsed = errorBodySchema.safeParse(body);
  const first = parsed.success ? parsed.data.errors[0] : undefined;
  if (first === undefined) return undefined;
  const words = [first.code, first.message].filter((word) => word !== undefined && word !== '').join(': ');
  const shown = words.replace(UNPRINTABLE, ' ').trim().slice(0, MAX_SHOWN_CHARACTERS);
  return shown === '' ? undefined : shown;
}
