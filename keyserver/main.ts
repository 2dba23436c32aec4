/** The key server's process: start, ready message, signals, exit status. */
import { join } from 'node:path';
import tls from 'node:tls';
import { logVerbosity, setLogVerbosity } from '@grpc/grpc-js';
import { ERROR_TABLE, type LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import { VERSION } from '#src/base/installation.ts';
import { addToken } from './add-token.ts';
import { type ServeOptions, parseArguments } from './arguments.ts';
import { doctor } from './doctor.ts';
import { init } from './init.ts';
import { createLogger } from './logging.ts';
import { redact } from './redaction.ts';
import { restore } from './restore.ts';
import { rotate } from './rotate.ts';
import { type RunningKeyServer, startKeyServer } from './start.ts';

/** Runs the key server until a signal stops it, then ends the process. */
export async function main(args: readonly string[]): Promise<void> {
  // Every listener of this process: nodes are our own and speak TLS 1.3.
  tls.DEFAULT_MIN_VERSION = 'TLSv1.3';
  // What the gRPC library would say on its own, the errors of calls and listeners say already.
  setLogVerbosity(logVerbosity.NONE);
  // Nothing this process writes is for other users of the machine.
  process.umask(0o077);
  if (args[0] === 'init') return answerOnce(() => init(args.slice(1), process.env));
  if (args[0] === 'add-token') {
    return answerOnce(() => addToken(args.slice(1), process.env, process.stdin));
  }
  if (args[0] === 'rotate') {
    return answerOnce(() => rotate(args.slice(1), process.env, process.stdin, say));
  }
  if (args[0] === 'doctor') return answerOnce(() => doctor(args.slice(1), process.env));
  if (args[0] === 'restore') return answerOnce(() => restore(args.slice(1), process.env, process.stdin));
  try {
    const options = parseArguments(args, process.env);
    const logger = createLogger(options.logLevel);
    const running = await startKeyServer(options, VERSION, logger);
    // Who reads that it is ready may stop it at once.
    const signalled = stopSignal();
    sayReady(running, options);
    logger.info({ signal: await signalled }, 'stopping');
    await running.stop();
    process.exit(0);
  } catch (error) {
    const known = toLatchkeyError(error);
    sayError(known);
    process.exit(ERROR_TABLE[known.code].exit);
  }
}

/** For `latchkey server`, which shows it: one JSON document, the answer or the error. */
async function answerOnce(work: () => Promise<unknown>): Promise<void> {
  try {
    say(await work());
  } catch (error) {
    const { code, message, hint } = toLatchkeyError(error);
    say({ error: { code, message, hint } });
  }
}

function say(document: unknown): void {
  process.stdout.write(`${JSON.stringify(document)}\n`);
}

/** One line that people read and scripts wait for; stdout carries nothing else. */
function sayReady(running: RunningKeyServer, options: ServeOptions): void {
  const isNewToken = running.firstStart || options.recoversAdmin;
  const token = isNewToken ? `; admin token in ${join(options.dataDirectory, 'admin.token')}` : '';
  process.stdout.write(
    `latchkey key server is ${running.isSealed ? 'sealed' : 'ready'}: admin ${running.adminUrl}, nodes ${running.nodeAddress}, ` +
      `enrollment ${running.enrollAddress}, data ${options.dataDirectory}${token}\n`,
  );
}

function sayError(error: LatchkeyError): void {
  process.stderr.write(`latchkey: ${redact(error.line.replaceAll(/\s*\n\s*/g, ' '))}\n`);
  if (error.code === 'BUG_UNEXPECTED' && error.cause instanceof Error) {
    process.stderr.write(`${redact(error.cause.stack ?? '')}\n`);
  }
}

const STOP_SIGNALS = ['SIGINT', 'SIGTERM'] as const;

/** The first signal; a second one, of somebody who cannot wait, ends the process. What was acknowledged is committed. */
function stopSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let isStopping = false;
    for (const name of STOP_SIGNALS) {
      process.on(name, () => {
        if (isStopping) process.exit(ERROR_TABLE.INTERRUPTED.exit);
        isStopping = true;
        resolve(name);
      });
    }
  });
}
