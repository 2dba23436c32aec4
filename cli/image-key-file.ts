/**
 * An image key in a file, from `latchkey image-key create` to `latchkey release register`. Between the two it opens
 * every layer that was encrypted with it, so it is for its owner alone and removed when the key server has the key.
 */
import { readFile, stat } from 'node:fs/promises';
import * as z from 'zod';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';
import { parseJson } from '#src/base/json.ts';
import { MAX_IMAGE_KEY_FILE_BYTES } from '#src/base/limits.ts';
import { decodeBase64, encodeBase64 } from '#src/crypto/base64.ts';
import type { ImageKey } from '#src/image/registrar.ts';
import { IMAGE_KEY_BYTES } from '#src/keywrap/latchkey-element.ts';
import { writeNewFile } from './new-file.ts';

const OWNER_ONLY = 0o600;
const GROUP_AND_WORLD = 0o077;

const fileSchema = z.strictObject({
  version: z.literal(1),
  imageKeyId: z.string().min(1).max(128),
  organizationId: z.string().min(1).max(128),
  contact: z.string().max(256).optional(),
  productCode: z.string().min(1),
  imageKey: z.string(),
  sealedImageKey: z.string(),
});

export interface ImageKeyFile extends ImageKey {
  readonly productCode: string;
}

/**
 * Writes a new file.
 * @throws LatchkeyError STATE_CONFLICT when there is one, STORAGE_*
 */
export async function writeImageKeyFile(path: string, content: ImageKeyFile): Promise<void> {
  const { imageKeyId, owner, productCode, imageKey, sealedImageKey } = content;
  const document = {
    version: 1,
    imageKeyId,
    organizationId: owner.organizationId,
    contact: owner.contact,
    productCode,
    imageKey: encodeBase64(imageKey),
    sealedImageKey,
  };
  await writeNewFile(path, `${JSON.stringify(document, null, 2)}\n`, {
    mode: OWNER_ONLY,
    hint: 'choose another name; the image key in it may be in use',
  });
}

/**
 * Reads a file.
 * @throws LatchkeyError STATE_NOT_FOUND, KEY_INVALID when it is not one or others can read it
 */
export async function readImageKeyFile(path: string): Promise<ImageKeyFile> {
  const parsed = fileSchema.safeParse(parseText(await readPrivate(path), path));
  const imageKey = decodeBase64(parsed.data?.imageKey ?? '');
  // The cause is dropped: it could quote the key.
  if (!parsed.success || imageKey?.length !== IMAGE_KEY_BYTES) throw notAnImageKeyFile(path);
  const { imageKeyId, organizationId, contact, productCode, sealedImageKey } = parsed.data;
  return {
    imageKeyId,
    owner: { imageKeyId, organizationId, contact },
    productCode,
    imageKey,
    sealedImageKey,
  };
}

async function readPrivate(path: string): Promise<string> {
  try {
    const { mode, size } = await stat(path);
    if (size > MAX_IMAGE_KEY_FILE_BYTES) throw notAnImageKeyFile(path);
    if ((mode & GROUP_AND_WORLD) !== 0) {
      throw new LatchkeyError('KEY_INVALID', `others can read the image key file ${path}`, {
        hint: `run: chmod 600 ${path}`,
      });
    }
    return await readFile(path, 'utf8');
  } catch (error) {
    if (systemErrorCode(error) !== 'ENOENT') throw error;
    throw new LatchkeyError('STATE_NOT_FOUND', `there is no image key file ${path}`, {
      hint: "'latchkey image-key create' makes one, 'latchkey release register' removes it once the image is registered",
      cause: error,
    });
  }
}

function parseText(text: string, path: string): unknown {
  try {
    return parseJson(text, 'the file');
  } catch (error) {
    if (!(error instanceof LatchkeyError)) throw error;
    throw notAnImageKeyFile(path);
  }
}

function notAnImageKeyFile(path: string): LatchkeyError {
  return new LatchkeyError('KEY_INVALID', `${path} is not an image key file`, {
    hint: "make one with 'latchkey image-key create --product CODE --out FILE'",
  });
}
