/** What can be wrong between the agent and the key server, judged by what the agent says of itself. */
import { type StoreFacts, storeFindings, storeProgramFindings } from './doctor-store.ts';
import { type Finding, fault, ok } from './finding.ts';

export interface AgentFacts {
  readonly version: string;
  /** Empty while the node is not activated. */
  readonly nodeId: string;
  readonly keyServer: string;
  readonly keyServerConnected: boolean;
  /** 0 = never. */
  readonly lastContactMs: number;
  readonly certificateExpiresAtMs: number;
  /** `file`, or in words which key on which token. */
  readonly nodeKey: string;
  readonly containerdVersion: string;
  readonly plaintextBytes: number;
  readonly plaintextCapacityBytes: number;
  readonly licenses: readonly { readonly licenseId: string; readonly state: string }[];
  readonly leases: readonly { readonly state: string }[];
}

export interface AgentCircumstances {
  readonly agent: AgentFacts | undefined;
  readonly agentSocket: string;
  readonly hasSnapshotterSocket: boolean;
  readonly snapshotterSocket: string;
  readonly needsContainerd: boolean;
  /** Undefined in the modes that have none. */
  readonly store: StoreFacts | undefined;
  /** Of the command that examines. */
  readonly commandVersion: string;
  readonly nowMs: number;
  /** Whether a connection could be made from here; undefined: not tried. */
  readonly keyServerReachable: boolean | undefined;
}

const DAY_MS = 86_400_000;
const CERTIFICATE_WARNING_MS = 14 * DAY_MS;
/** Watching nodes hear from their key server every minute at least; longer says that it is away. */
const LONG_SILENCE_MS = 15 * 60_000;
/** As much as a node's clock may be off. */
const CLOCK_TOLERANCE_MS = 5 * 60_000;

export function agentFindings(facts: AgentCircumstances): Finding[] {
  const { agent, store } = facts;
  const programs = store === undefined ? [] : storeProgramFindings(store);
  if (agent === undefined) {
    const start =
      "start it: 'systemctl start latchkey-node', or 'latchkey node run' as root; why it does not start stands in its log";
    // What only the agent knows is not guessed at.
    return [
      ...programs,
      fault('agent-not-running', 'bad', `the agent does not answer at ${facts.agentSocket}`, start),
      ...reachability(facts),
    ];
  }
  return [
    ok('agent-not-running', `the agent answers at ${facts.agentSocket}`),
    ...versionFindings(agent, facts.commandVersion),
    ...socketFindings(facts),
    ...programs,
    ...(store === undefined ? [] : storeFindings(store, agent)),
    ...activationFindings(agent, facts.nowMs),
    ...clockFindings(agent, facts.nowMs),
    ...keyServerFindings(agent, facts),
    ...licenseFindings(agent),
  ];
}

function versionFindings(agent: AgentFacts, commandVersion: string): Finding[] {
  if (agent.version === commandVersion) return [];
  return [
    fault(
      'agent-version',
      'warning',
      `the agent that runs is version ${agent.version}, this command ${commandVersion}`,
      'restart the agent; containers go on',
    ),
  ];
}

function socketFindings(facts: AgentCircumstances): Finding[] {
  const findings: Finding[] = [];
  if (facts.store !== undefined && !facts.hasSnapshotterSocket)
    findings.push(
      fault(
        'snapshotter-socket-missing',
        'bad',
        `there is no socket at ${facts.snapshotterSocket}, so that no container starts`,
        'restart the agent',
      ),
    );
  if (facts.needsContainerd && facts.agent?.containerdVersion === '')
    findings.push(
      fault(
        'containerd-unreachable',
        'bad',
        'the agent cannot reach containerd',
        'start containerd, or set containerd_address in the agent’s configuration',
      ),
    );
  return findings;
}

function activationFindings(
  { nodeId, certificateExpiresAtMs, nodeKey }: AgentFacts,
  nowMs: number,
): Finding[] {
  if (nodeId === '')
    return [
      fault(
        'not-activated',
        'bad',
        'this node has no license',
        "run 'latchkey node activate -' with the license key on standard input",
      ),
    ];
  const until = new Date(certificateExpiresAtMs).toISOString();
  const mend = 'see that the key server can be reached: the agent renews it by itself; or activate again';
  if (certificateExpiresAtMs <= nowMs)
    return [fault('certificate-ends', 'bad', `the node certificate ended at ${until}`, mend)];
  // Behind a key on a token is a certificate of a day, which the agent renews by itself.
  if (nodeKey === 'file' && certificateExpiresAtMs - nowMs < CERTIFICATE_WARNING_MS)
    return [fault('certificate-ends', 'warning', `the node certificate ends at ${until}`, mend)];
  return [ok('not-activated', `activated as ${nodeId}, certificate until ${until}, node key: ${nodeKey}`)];
}

/** The agent is told when its time is not that of the key server; without an agent nothing is asked. */
function clockFindings(agent: AgentFacts, nowMs: number): Finding[] {
  const isRefused = [...agent.licenses, ...agent.leases].some(({ state }) => state === 'DENIED_CLOCK_SKEW');
  const wentBack = agent.lastContactMs > nowMs + CLOCK_TOLERANCE_MS;
  if (!isRefused && !wentBack) return [];
  const detail = isRefused
    ? 'the key server refuses this machine because its clock is off'
    : 'the last contact with the key server lies in the future: this clock was set back';
  return [
    fault('clock-off', 'bad', detail, 'set the clock and keep it right by NTP (chrony, systemd-timesyncd)'),
  ];
}

function keyServerFindings(agent: AgentFacts, facts: AgentCircumstances): Finding[] {
  const { keyServer, keyServerConnected, lastContactMs } = agent;
  const contact = lastContactMs === 0 ? 'never' : new Date(lastContactMs).toISOString();
  if (keyServerConnected)
    return [ok('key-server-away', `connected to ${keyServer}, last contact ${contact}`)];
  if (agent.nodeId === '') return reachability(facts);
  const isLong = facts.nowMs - lastContactMs > LONG_SILENCE_MS;
  const reach =
    facts.keyServerReachable === true
      ? 'it can be reached from here, so look at the agent’s log, authority_file and the clock'
      : 'check address, name resolution and firewall';
  return [
    fault(
      'key-server-away',
      isLong ? 'bad' : 'warning',
      `${keyServer} is not connected, last contact ${contact}`,
      `${reach}; starts go on while leases last`,
    ),
  ];
}

function reachability({ keyServerReachable }: AgentCircumstances): Finding[] {
  return keyServerReachable === false
    ? [
        fault(
          'key-server-away',
          'bad',
          'the key server cannot be reached from here',
          'check address, name resolution and firewall',
        ),
      ]
    : [];
}

function licenseFindings({ licenses }: AgentFacts): Finding[] {
  return licenses
    .filter(({ state }) => state !== 'ACTIVE' && state !== 'DENIED_CLOCK_SKEW')
    .map(({ licenseId, state }) =>
      fault(
        'license-refused',
        'warning',
        `license ${licenseId}: ${state}`,
        'see this code in docs/operator-guide.md, or ask the contact',
      ),
    );
}
