/** What an installation has changed on a machine, so that it can be taken back: a JSON file in the state directory. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';
import { parseJson } from '#src/base/json.ts';
import { NODE_MODES } from '../agent/node-mode.ts';

const sha256 = z.string().regex(/^[\da-f]{64}$/);

const recordSchema = z.strictObject({
  version: z.literal(1),
  mode: z.enum(NODE_MODES),
  runtimeClass: z.string().nullable(),
  containerd: z
    .strictObject({
      program: z.string(),
      configPath: z.string(),
      version: z.string(),
      service: z.string().nullable(),
    })
    .nullable(),
  files: z.array(
    z.strictObject({
      path: z.string(),
      /**
       * `edited`: marked lines in a file of the operator; `own`: a file of ours; `settings`: a file that is the operator's
       * from now on.
       */
      kind: z.enum(['edited', 'own', 'settings']),
      /** Of the file before the first installation; null = there was none. */
      beforeSha256: sha256.nullable(),
      backup: z.string().nullable(),
      afterSha256: sha256,
    }),
  ),
  /** Directories that were made, outermost first. */
  directories: z.array(z.string()),
});

export type InstallationRecord = z.infer<typeof recordSchema>;
export type RecordedFile = InstallationRecord['files'][number];

export function recordPath(stateDirectory: string): string {
  return join(stateDirectory, 'installation.json');
}

/**
 * @returns undefined when nothing was installed
 * @throws LatchkeyError STATE_DAMAGED for a file that cannot be understood
 */
export async function readRecord(stateDirectory: string): Promise<InstallationRecord | undefined> {
  const path = recordPath(stateDirectory);
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
  const parsed = recordSchema.safeParse(parseJson(text, path));
  if (!parsed.success) {
    throw new LatchkeyError('STATE_DAMAGED', `${path} is damaged, or of another version of Latchkey`, {
      hint: 'use the version that installed, or restore the files named *.before-latchkey by hand',
    });
  }
  return parsed.data;
}

export function sha256Of(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
