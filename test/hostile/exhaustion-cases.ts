/** Input that would cost gigabytes or hours if it were believed. Run as a program: prints what came of each case. */
import { generateKeyPairSync } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_MANIFEST_BYTES, MAX_STATEMENT_ENVELOPE_BYTES } from '#src/base/limits.ts';
import { parseDsseEnvelope } from '#src/crypto/dsse.ts';
import { createContentHasher } from '#src/image/content-hasher.ts';
import { parseWrappedKeys } from '#src/keywrap/annotations.ts';
import { createJweUnwrapper } from '#src/keywrap/jwe.ts';
import { parseConfig } from '#src/oci/config.ts';
import { parseImageDocument } from '#src/oci/document.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { imageLayers, parseImageManifest } from '../../shim/agent/encrypted-image.ts';

const MILLION = 1_000_000;
const GIBIBYTE = 1024 ** 3;
const DIGEST = `sha256:${'c'.repeat(64)}`;
const CONFIG = `{"mediaType":"${MEDIA_TYPE.ociConfig}","digest":"${DIGEST}","size":2}`;

const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const jwe = (members: string): Buffer =>
  Buffer.from(`{${members},"iv":"AAAA","ciphertext":"AAAA","tag":"AAAA"}`);
const base64url = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');

/** A list of as many items as fit into that many bytes. */
function list(item: string, sizeBytes: number): string {
  return `[${`${item},`.repeat(Math.floor(sizeBytes / (item.length + 1)) - 1)}${item}]`;
}

function manifestOf(layers: string): Buffer {
  return Buffer.from(`{"schemaVersion":2,"config":${CONFIG},"layers":${layers}}`);
}

const ROOM = MAX_MANIFEST_BYTES - 1000;

export const EXHAUSTION_CASES = {
  'JWE with a million recipients': () => {
    const recipients = list('{"encrypted_key":"AAAA"}', MILLION * 25);
    return createJweUnwrapper(privateKey).unwrap(jwe(`"recipients":${recipients}`));
  },
  'JWE that asks for 2^31 rounds of PBES2': () => {
    const header = { alg: 'PBES2-HS256+A128KW', enc: 'A256GCM', p2s: 'AAAAAAAAAAA', p2c: 2 ** 31 - 1 };
    return createJweUnwrapper(privateKey).unwrap(
      jwe(`"protected":"${base64url(header)}","encrypted_key":"AAAA"`),
    );
  },
  'million wrapped keys': () => parseWrappedKeys('AAAA,'.repeat(MILLION)),
  'manifest of empty layers': () => parseImageDocument(manifestOf(list('{}', ROOM)), MEDIA_TYPE.ociManifest),
  'index of numbers': () =>
    parseImageDocument(
      Buffer.from(`{"schemaVersion":2,"manifests":${list('1', ROOM)}}`),
      MEDIA_TYPE.ociIndex,
    ),
  'manifest of brackets': () =>
    parseImageDocument(manifestOf('['.repeat(ROOM / 2) + ']'.repeat(ROOM / 2)), MEDIA_TYPE.ociManifest),
  'config of empty history': () =>
    parseConfig(
      Buffer.from(
        `{"os":"a","architecture":"b","rootfs":{"type":"layers","diff_ids":[]},"history":${list('{}', ROOM)}}`,
      ),
    ),
  'statement of empty signatures': () =>
    parseDsseEnvelope(
      Buffer.from(
        `{"payloadType":"a","payload":"","signatures":${list('{}', MAX_STATEMENT_ENVELOPE_BYTES - 1000)}}`,
      ),
    ),
  'manifest of empty layers, on a node': () => parseImageManifest(manifestOf(list('{}', ROOM))),
  'config of a million diff IDs, on a node': () =>
    imageLayers(
      parseImageManifest(manifestOf(`[{"mediaType":"a","digest":"${DIGEST}","size":1}]`))!,
      Buffer.from(`{"rootfs":{"diff_ids":${list('1', ROOM)}}}`),
    ),
  'layer that unpacks to a gibibyte': async () => {
    const hasher = createContentHasher({ compression: 'gzip', tailBytes: 0, isLarge: false });
    const member = gzipSync(Buffer.alloc(GIBIBYTE / 64));
    for (let count = 0; count < 64; count += 1) await hasher.update(member);
    return (await hasher.finish()).whole.length;
  },
} satisfies Record<string, () => unknown>;

if (process.argv[1] === import.meta.filename) {
  for (const [name, run] of Object.entries(EXHAUSTION_CASES)) {
    let result: unknown;
    try {
      result = (await run()) ?? 'nothing';
    } catch (error) {
      result = error instanceof LatchkeyError ? error.code : String(error);
    }
    process.stdout.write(`${JSON.stringify([name, result])}\n`);
  }
  const { maxRSS } = process.resourceUsage();
  process.stdout.write(`${JSON.stringify(['resident KiB', maxRSS])}\n`);
}
