/**
 * Where stream processors come: each says its process id, its layer is identified, the key is granted or
 * refused, and a worker decrypts on the processor's own pipes. A refusal is written to the processor's stderr.
 */
import { type Server, type Socket, createServer } from 'node:net';
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import { PROCESSOR_HELLO_TIMEOUT_MS } from '#src/base/limits.ts';
import type { Digest } from '#src/oci/digest.ts';
import type { KeyGrant, KeyGrantor } from './key-grant.ts';
import { newProgress } from './layer-progress.ts';
import { endRefused, endServed, tell } from './processor-end.ts';
import { type OpenFile, type ProcessorFiles, openProcessorFiles } from './processor-files.ts';
import { payloadLayerDigest } from './processor-payload.ts';
import { watchProgress } from './stall-watch.ts';
import type { WorkerPool } from './worker-pool.ts';

const PROCESS_ID_BYTES = 4;
const EXIT_OK = 0;
const EXIT_FAILED = 1;

export interface LayerOutcome {
  readonly digest: Digest | undefined;
  readonly sizeBytes: number;
  /** Whether containerd's client had sent one, as CRI's own pull does; a layer is known without it too. */
  readonly hasPayload: boolean;
  readonly durationMs: number;
  readonly error?: LatchkeyError;
}

export interface ProcessorEndpointParts {
  readonly pool: WorkerPool;
  readonly grantor: Pick<KeyGrantor, 'grant'>;
  /** The only executable that is served. */
  readonly programPath: string;
  /** How long a layer may stand still; default = LAYER_STALL_TIMEOUT_MS. */
  readonly stallTimeoutMs?: number;
  /** How long an answered processor may take to end; default = PROCESSOR_EXIT_TIMEOUT_MS. */
  readonly exitTimeoutMs?: number;
  readonly onLayer: (outcome: LayerOutcome) => void;
  /** Of a layer whose processor did not end. */
  readonly onKilled?: (digest: Digest | undefined) => void;
}

/** Listens on the processors' socket. */
export async function serveProcessors(socketPath: string, parts: ProcessorEndpointParts): Promise<Server> {
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy());
    socket.setTimeout(PROCESSOR_HELLO_TIMEOUT_MS, () => socket.destroy());
    socket.once('data', (data) => {
      socket.setTimeout(0);
      void serve(socket, data, parts);
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(socketPath, resolve);
  });
  return server;
}

async function serve(socket: Socket, data: Buffer, parts: ProcessorEndpointParts): Promise<void> {
  const processId = data.length === PROCESS_ID_BYTES ? data.readInt32LE() : 0;
  const startedAtMs = performance.now();
  const durationMs = (): number => Math.round(performance.now() - startedAtMs);
  let files: ProcessorFiles | undefined;
  let grant: KeyGrant | undefined;
  let wasKilled = false;
  try {
    files = await openProcessorFiles(processId, parts.programPath);
    const { payload } = files;
    const hint = payload === undefined ? undefined : payloadLayerDigest(payload);
    const sizeBytes = await decrypt(files, hint, parts, (given) => (grant = given));
    // Its exit status fails the unpacking whatever has come through; an early end would only hide the reason.
    if (socket.closed) throw endedEarly();
    grant?.verified();
    close(files.input, files.messages, files.output);
    socket.end(Buffer.of(EXIT_OK));
    const digest = grant?.layerDigest;
    parts.onLayer({ digest, sizeBytes, hasPayload: payload !== undefined, durationMs: durationMs() });
    wasKilled = await endServed(files.process, socket, parts.exitTimeoutMs);
  } catch (error) {
    const known = toLatchkeyError(error);
    grant?.failed(known);
    const hasPayload = files?.payload !== undefined;
    const digest = grant?.layerDigest;
    parts.onLayer({ digest, sizeBytes: 0, hasPayload, durationMs: durationMs(), error: known });
    if (files !== undefined) {
      await tell(files.messages, known);
      close(files.input, files.messages);
    }
    socket.end(Buffer.of(EXIT_FAILED));
    if (files !== undefined) wasKilled = await endRefused(files.process, files.output, parts.exitTimeoutMs);
  }
  if (wasKilled) parts.onKilled?.(grant?.layerDigest);
}

async function decrypt(
  files: ProcessorFiles,
  hint: Digest | undefined,
  parts: ProcessorEndpointParts,
  onGrant: (grant: KeyGrant) => void,
): Promise<number> {
  return parts.pool.lend(async (run) => {
    const progress = newProgress();
    let isAtWork = false;
    const runWatched: typeof run = async (job) => {
      isAtWork = true;
      try {
        return await run(job);
      } finally {
        isAtWork = false;
      }
    };
    const endWatch = watchProgress(progress, files, () => isAtWork, parts.stallTimeoutMs);
    try {
      const identified = await runWatched({ kind: 'head', input: files.input.fd, progress });
      if (identified.kind !== 'head') throw failure(identified);
      const grant = await parts.grantor.grant(identified.head, hint);
      onGrant(grant);
      const result = await runWatched({
        kind: 'decrypt',
        input: files.input.fd,
        output: files.output.fd,
        head: identified.head,
        key: grant.key,
        mac: grant.mac,
        progress,
      });
      if (result.kind !== 'decrypted') throw failure(result);
      return result.sizeBytes;
    } finally {
      await endWatch();
    }
  });
}

function failure(result: { kind: string; code?: LatchkeyError['code']; message?: string }): LatchkeyError {
  return new LatchkeyError(
    result.code ?? 'BUG_UNEXPECTED',
    result.message ?? `unexpected answer ${result.kind}`,
  );
}

function endedEarly(): LatchkeyError {
  return new LatchkeyError(
    'STATE_PRECONDITION',
    'the stream processor of a layer was ended before the layer was through',
    { hint: 'pull the image or start the container again' },
  );
}

function close(...files: readonly OpenFile[]): void {
  for (const file of files) file.close();
}
