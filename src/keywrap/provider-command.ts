/**
 * A key provider that is a program: one document on stdin, one on stdout, status 0 (ocicrypt utils/ioutils). Peers
 * wait for it for ever and keep all it writes; here it has a deadline and a limit.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { LatchkeyError, systemErrorCode, toLatchkeyError } from '#src/base/errors.ts';
import { MAX_PROVIDER_MESSAGE_BYTES, MAX_PROVIDER_STDERR_BYTES } from '#src/base/limits.ts';
import type { CommandTransport } from './provider-config.ts';
import { providerFailed } from './provider-failure.ts';
import type { ProviderCall } from './provider.ts';

/**
 * Runs the program for one request.
 * @returns what it wrote to stdout
 * @throws LatchkeyError KEY_PROVIDER_FAILED, NET_TIMEOUT, CONFIG_INVALID when there is no such program, INTERRUPTED
 */
export function callProviderCommand(transport: CommandTransport, call: ProviderCall): Promise<Uint8Array> {
  call.signal?.throwIfAborted();
  return new Promise((resolve, reject) => {
    const child = spawn(transport.path, transport.args, {
      stdio: 'pipe',
      env: call.environment,
      shell: false,
    });
    const end = (settle: () => void): void => {
      clearTimeout(timer);
      call.signal?.removeEventListener('abort', abort);
      stop(child);
      settle();
    };
    const fail = (error: LatchkeyError): void => {
      end(() => reject(error));
    };
    const abort = (): void => {
      fail(toLatchkeyError(call.signal?.reason));
    };
    const timer = setTimeout(() => fail(tooSlow(call)), call.timeoutMs);
    call.signal?.addEventListener('abort', abort);

    const output = collect(child.stdout, MAX_PROVIDER_MESSAGE_BYTES, () => {
      fail(providerFailed(call.name, `answered with more than ${MAX_PROVIDER_MESSAGE_BYTES} bytes`));
    });
    const words = collect(child.stderr, MAX_PROVIDER_STDERR_BYTES, () => undefined);
    // A provider may answer, or fail, without reading what it was asked.
    child.stdin.on('error', () => undefined);
    child.stdin.end(call.request);
    child.once('error', (error) => fail(notStarted(transport, call, error)));
    child.once('close', (status, signal) => {
      if (status === 0) end(() => resolve(output()));
      else {
        const reason =
          status === null ? `was ended by ${signal ?? 'a signal'}` : `ended with status ${status}`;
        fail(providerFailed(call.name, reason, { said: words().toString(), secret: call.secret }));
      }
    });
  });
}

/** Gives what has been read so far; beyond the limit nothing is kept. */
function collect(stream: NodeJS.ReadableStream, limitBytes: number, onExceeded: () => void): () => Buffer {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  stream.on('data', (chunk: Buffer) => {
    if (sizeBytes > limitBytes) return;
    sizeBytes += chunk.length;
    chunks.push(chunk);
    if (sizeBytes > limitBytes) onExceeded();
  });
  return () => Buffer.concat(chunks);
}

/** Also lets go of the pipes: a child of the program may hold them for as long as it likes. */
function stop(child: ChildProcess): void {
  child.kill('SIGKILL');
  for (const stream of child.stdio) stream?.destroy();
}

function tooSlow(call: ProviderCall): LatchkeyError {
  return new LatchkeyError(
    'NET_TIMEOUT',
    `key provider ${call.name} did not answer within ${call.timeoutMs / 1000} s`,
    { hint: 'it was ended; see whether what it asks in turn can be reached' },
  );
}

function notStarted(transport: CommandTransport, call: ProviderCall, error: Error): LatchkeyError {
  const isMissing = ['ENOENT', 'EACCES', 'ENOTDIR'].includes(systemErrorCode(error) ?? '');
  if (!isMissing) return providerFailed(call.name, 'could not be started', { cause: error });
  return new LatchkeyError(
    'CONFIG_INVALID',
    `the program of key provider ${call.name} cannot be run: ${JSON.stringify(transport.path)}`,
    { hint: 'install it, or mend its path in the key provider configuration', cause: error },
  );
}
