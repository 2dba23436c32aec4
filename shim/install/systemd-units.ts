/**
 * The texts for systemd (systemd.service(5), systemd.exec(5)): the agent's service, and what makes containerd wait for
 * it. Pure, so that a package can bring the same ones along.
 */
import type { AgentPaths } from '../agent/agent-config.ts';

export const NODE_SERVICE = 'latchkey-node.service';

/** The name that a drop-in of ours has in the folder of another service. */
export const DROP_IN_NAME = 'latchkey.conf';

/** How long the agent may take until its sockets are there: it checks what an earlier run left first. */
const START_TIMEOUT_SECONDS = 90;
/** Shares what is left of the memory last, just above what the kernel never ends. */
const OOM_SCORE = -999;

/**
 * The agent's service. It is up once its sockets are there, so that what starts after it finds them: the main process
 * binds the agent's own socket last. A process that cannot speak systemd's protocol by itself is waited for like this
 * on every version.
 * @param command program and arguments, each as it is
 * @param services those that wait for the agent: `containerd.service`
 */
export function nodeServiceUnit(
  command: readonly string[],
  paths: Pick<AgentPaths, 'agentSocket' | 'runtimeDirectory' | 'journalFile'>,
  services: readonly string[],
): string {
  const socket = unitWord(paths.agentSocket);
  const wait = `until test -S ${socket}; do kill -0 $$MAINPID || exit 1; sleep 0.1; done`;
  const runtime = /^\/run\/([^/]+)$/.exec(paths.runtimeDirectory)?.[1];
  return `# Written by 'latchkey node install'.
[Unit]
Description=Latchkey node agent
Documentation=man:systemd.service(5)
After=local-fs.target network.target
Before=${['kubelet.service', ...services].join(' ')}
RequiresMountsFor=${unitWord(paths.journalFile.slice(0, paths.journalFile.lastIndexOf('/')))}
# No container starts without the agent, so it is never given up.
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart=${command.map(unitWord).join(' ')}
# Up means that its sockets are there.
ExecStartPost=/bin/sh -c ${unitWord(wait)}
TimeoutStartSec=${START_TIMEOUT_SECONDS}
Restart=always
RestartSec=1
# Sockets of an ended agent go with it. The plaintext store is mounted elsewhere and outlives a restart.
${runtime === undefined ? '' : `RuntimeDirectory=${runtime}\nRuntimeDirectoryMode=0700\n`}KillMode=process
UMask=0077
OOMScoreAdjust=${OOM_SCORE}
ManagedOOMPreference=omit
LimitCORE=0
LimitNOFILE=1048576
TasksMax=infinity
# Nothing here may give the agent a mount namespace of its own (PrivateTmp=, PrivateMounts=, ProtectSystem= and the
# like): containerd would not see the plaintext store.

[Install]
WantedBy=multi-user.target
`;
}

/** For the folder of containerd's own service (`containerd.service.d`): it never starts before the sockets exist. */
export function containerdDropIn(): string {
  return `# Written by 'latchkey node install'.
[Unit]
Wants=${NODE_SERVICE}
After=${NODE_SERVICE}
`;
}

/** A word of a command line or a path: specifiers, variables and quotes are taken as they are. */
function unitWord(word: string): string {
  const escaped = word.replaceAll('\\', '\\\\').replaceAll('%', '%%').replaceAll('"', '\\"');
  return /[\s"'\\;]/.test(word) ? `"${escaped}"` : escaped;
}
