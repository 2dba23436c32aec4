/** The agent as a process: sockets, store and signals around `Agent`. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, readFile, rm } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { type Logger, destination, pino } from 'pino';
import { ERROR_TABLE, LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import { VERSION, startWorker } from '#src/base/installation.ts';
import { MAX_OFFLINE_FILE_BYTES } from '#src/base/limits.ts';
import { KIBIBYTE } from '#src/base/units.ts';
import { makeDirectory } from '#src/base/make-directory.ts';
import { SnapshotsService } from '#src/wire/generated/containerd/snapshots.ts';
import { AgentService } from '#src/wire/generated/latchkey/agent.ts';
import { remindOfImages } from '../containerd/forgotten-images.ts';
import { snapshotsService } from '../snapshotter/service.ts';
import { choosePlaintextStore } from '../snapshotter/store-choice.ts';
import { type AgentConfig, type AgentPaths, DEFAULT_CONFIG_PATH, parseAgentConfig } from './agent-config.ts';
import { agentService } from './agent-service.ts';
import { Agent } from './agent.ts';
import { type HookServer, serveHooks } from './hook-endpoint.ts';
import { CallObserver, causeText } from './call-observer.ts';
import { bootClock, readMachine } from './machine.ts';
import { dropAtShutdown } from './shutdown-drop.ts';
import { type KeyProviderSocket, serveKeyProvider } from './key-provider-socket.ts';
import { keyProviderHandlers } from './key-provider.ts';
import { servesSnapshots } from './node-mode.ts';
import { nodePlatform } from './node-platform.ts';
import { metricState } from './metric-state.ts';
import { serveMetrics } from '#src/base/metrics-endpoint.ts';
import { serveProcessors } from './processor-endpoint.ts';
import { PlaintextDropper } from './plaintext.ts';
import { installProcessor } from './processor-install.ts';
import { StartHook } from './start-hook.ts';
import { lockState } from './state-lock.ts';
import { WorkerPool } from './worker-pool.ts';

const PRIVATE_DIRECTORY_MODE = 0o700;
const STDERR = 2;
/** Lets pending answers leave before the process ends. */
const DRAIN_MS = 2000;

/** Runs until a signal. @param args the path of the configuration file, or none for the default one */
export async function main(args: readonly string[]): Promise<void> {
  const log = pino({ name: 'latchkey-agent' }, destination(STDERR));
  try {
    const path = args[0] ?? DEFAULT_CONFIG_PATH;
    await run(await loadConfig(path), log);
  } catch (error) {
    const known = toLatchkeyError(error);
    process.stderr.write(`latchkey: ${known.line}\n`);
    process.exit(ERROR_TABLE[known.code].exit);
  }
}

async function loadConfig(path: string): Promise<AgentConfig> {
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    throw new LatchkeyError('CONFIG_INVALID', `the agent's configuration ${path} cannot be read`, {
      hint: 'write it; docs/operator-guide.md shows one',
      cause: error,
    });
  });
  return parseAgentConfig(text, path);
}

async function run(config: AgentConfig, log: Logger): Promise<void> {
  const { paths } = config;
  const isSnapshotter = servesSnapshots(config.mode);
  log.level = config.logLevel;
  if (process.getuid?.() !== 0) {
    throw new LatchkeyError('CONFIG_INVALID', 'the agent must run as root', {
      hint: 'it mounts container filesystems; start it with sudo or as a system service',
    });
  }
  await prepareDirectories(paths);
  const lock = lockState(paths.lockFile);
  await refuseSecondAgent(paths.agentSocket);
  const store = choosePlaintextStore(config.store, (error) => {
    log.warn({ error: error.line, cause: causeText(error) }, 'a layer stays uncompressed');
  });
  const { writableDirectory } = isSnapshotter ? await store.open() : { writableDirectory: undefined };
  if (!isSnapshotter) await makeDirectory(paths.memoryDirectory, PRIVATE_DIRECTORY_MODE);
  const processor = await installProcessor(config.processor, paths);
  const overlayOptions = existsSync('/sys/module/overlay/parameters/index') ? ['index=off'] : [];
  const clock = bootClock();
  const pool = new WorkerPool((options) => startWorker('shim/agent/decrypt-worker.ts', options));
  const agent = new Agent({
    ...{ config, clock, log, machine: readMachine(), overlayOptions, copyTree },
    ...{ store, writableDirectory },
    onExtraction: () => {
      pool.foresee();
    },
  });
  await agent.start();
  const { snapshotter, leases, metrics } = agent;
  const observer = new CallObserver({ snapshotter, leases, metrics, clock, log });
  const processors = await serveProcessors(paths.processorSocket, {
    pool,
    grantor: agent.grantor,
    programPath: processor.executable,
    onLayer: (outcome) => {
      observer.layer(outcome);
    },
    onKilled: (digest) => {
      log.warn({ digest }, 'stream processor killed');
    },
  });
  const server = new Server({
    'grpc.max_receive_message_length': MAX_OFFLINE_FILE_BYTES + KIBIBYTE,
    'grpc.enable_channelz': 0,
  });
  server.addService(
    SnapshotsService,
    snapshotsService(agent.snapshotter, (call) => {
      observer.snapshotCall(call);
    }),
  );
  const denials = () => observer.record.recent();
  server.addService(AgentService, agentService({ agent, config, store, version: VERSION, denials }));
  if (isSnapshotter) await bind(server, paths.snapshotterSocket);
  await bind(server, paths.agentSocket);
  const stopReminding = isSnapshotter
    ? remindOfImages(agent.containerd, (count) => {
        log.info({ count }, 'CRI was reminded of images');
      })
    : undefined;
  const readMetrics = async () => metrics.text(await metricState(agent, config, store, pool, VERSION, clock));
  for (const address of [paths.metricsSocket, config.metricsListen]) {
    // Reading metrics keeps nobody from stopping.
    if (address !== undefined) (await serveMetrics(address, 'metrics_listen', readMetrics)).unref();
  }
  const keyProvider = await startKeyProvider(config, agent, log);
  const hooks = config.mode === 'hook' ? await startHooks(config, agent, log) : undefined;
  const signalled = untilSignal();
  log.info(
    { nodeId: agent.identity?.nodeId, runtimeDirectory: paths.runtimeDirectory, processor: processor.kind },
    'agent ready',
  );
  await signalled;
  log.info('agent stopping');
  stopReminding?.();
  processors.close();
  hooks?.close();
  await keyProvider?.close();
  await drain(server);
  if (config.dropAtShutdown && agent.plaintext instanceof PlaintextDropper) {
    const { dropped, kept } = await dropAtShutdown(agent.plaintext, store);
    log.info({ dropped, kept }, 'plaintext dropped at shutdown');
  }
  agent.stop();
  await pool.close();
  lock.release();
  process.exit(0);
}

/** Pending answers may leave; who takes longer is cut off. */
async function drain(server: Server): Promise<void> {
  const timer = setTimeout(() => {
    server.forceShutdown();
  }, DRAIN_MS);
  await new Promise<void>((resolve) => {
    server.tryShutdown(() => {
      resolve();
    });
  });
  clearTimeout(timer);
}

async function startHooks({ paths, processor }: AgentConfig, agent: Agent, log: Logger): Promise<HookServer> {
  const { hookProgram, hookSocket } = paths;
  // The hook says and waits for the same as a stream processor.
  const places = { processorProgram: hookProgram, processorSocket: hookSocket };
  const { executable } = await installProcessor(processor, places);
  const hook = new StartHook(agent.leases, nodePlatform(process.arch));
  return serveHooks(hookSocket, {
    programPath: executable,
    authorize: (state) => hook.authorize(state),
    onRefused: (error) => {
      log.warn({ error: error.line }, 'start refused');
    },
  });
}

/** Off unless configured: what its callers decrypt is outside the gate. */
async function startKeyProvider(
  config: AgentConfig,
  agent: Agent,
  log: Logger,
): Promise<KeyProviderSocket | undefined> {
  const { keyProviderSocket } = config;
  if (keyProviderSocket === undefined) return undefined;
  const handlers = keyProviderHandlers(agent.leases, (event) => {
    if ('error' in event) log.warn({ error: event.error.line }, 'layer key refused to a key provider client');
    else log.info(event, 'layer key given to a key provider client, outside the gate');
  });
  return serveKeyProvider(keyProviderSocket, handlers);
}

async function prepareDirectories(paths: AgentPaths): Promise<void> {
  const directories = [
    dirname(paths.journalFile),
    paths.diskDirectory,
    paths.identityDirectory,
    paths.runtimeDirectory,
  ];
  for (const directory of directories) await makeDirectory(directory, PRIVATE_DIRECTORY_MODE);
  // Sockets follow the umask; the directory is what keeps others out.
  await chmod(paths.runtimeDirectory, PRIVATE_DIRECTORY_MODE);
}

/** A socket that somebody answers on is not ours to replace; a dead one is a leftover. */
async function refuseSecondAgent(socketPath: string): Promise<void> {
  const answered = await new Promise<boolean>((resolve) => {
    const socket = createConnection(socketPath, () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => {
      resolve(false);
    });
  });
  if (answered) {
    throw new LatchkeyError('STATE_CONFLICT', `another agent is running on ${socketPath}`, {
      hint: 'stop it, or give this one its own state_directory and runtime_directory',
    });
  }
  for (const name of ['agent', 'snapshotter', 'processor', 'hook', 'metrics'].map(
    (socket) => `${socket}.sock`,
  )) {
    await rm(join(dirname(socketPath), name), { force: true });
  }
}

async function copyTree(from: string, to: string): Promise<void> {
  await promisify(execFile)('cp', ['--archive', from, to]);
}

function bind(server: Server, socketPath: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.bindAsync(`unix://${socketPath}`, ServerCredentials.createInsecure(), (error) => {
      if (error === null) resolve();
      else reject(error);
    });
  });
}

function untilSignal(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.once(signal, () => {
        resolve();
      });
    }
  });
}
