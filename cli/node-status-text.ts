/** `latchkey node status` for people. Pure. */
import type { StatusResponse } from '#src/wire/generated/latchkey/agent.ts';
import { formatBytes, formatFields, formatTable } from './output.ts';

const SHORT_DIGEST = 'sha256:'.length + 12;

/** @param nowMs what "in 23 min" is counted from */
export function nodeStatusText(status: StatusResponse, nowMs: number): string {
  const tables = [
    table('LICENSE', ['PRODUCT', 'STATE', 'CONTACT'], status.licenses, (license) => [
      license.licenseId,
      license.productCode,
      license.plaintextGoneAtMs === 0 ? license.state : `${license.state}, plaintext gone`,
      license.contact,
    ]),
    table('LEASE', ['LICENSE', 'ENDS', 'AUDIT EVENT', 'STATE'], status.leases, (lease) => [
      lease.leaseId,
      lease.licenseId,
      instant(lease.expiresAtMs, nowMs),
      String(lease.auditSequence),
      lease.state,
    ]),
    table('BUNDLE', ['PRODUCT', 'LICENSE', 'IMAGES', 'STARTS', 'ENDS'], status.offlineBundles, (bundle) => [
      `number ${bundle.sequence}`,
      bundle.productCode,
      bundle.licenseId,
      String(bundle.leases),
      bundle.maxStarts === 0 ? String(bundle.starts) : `${bundle.starts} of ${bundle.maxStarts}`,
      instant(bundle.expiresAtMs, nowMs),
    ]),
    table('IMAGE', ['NAME', 'LICENSE', 'STATE', 'DECRYPTED', 'MEMORY'], status.images, (image) => [
      image.digest.slice(0, SHORT_DIGEST),
      image.name || '-',
      image.licenseId || '-',
      image.state,
      `${image.decryptedLayers} of ${image.layers} layers`,
      formatBytes(image.decryptedBytes),
    ]),
    table('CONTAINER', ['NAMESPACE', 'POD', 'IMAGE', 'CREATED', 'STATE'], status.containers, (container) => [
      container.containerId,
      container.namespace,
      container.pod || '-',
      container.image || container.imageDigest.slice(0, SHORT_DIGEST),
      instant(container.createdAtMs, nowMs),
      container.state,
    ]),
    table('DENIED', ['CODE', 'LICENSE', 'WHAT'], status.denials, (denial) => [
      instant(denial.timeMs, nowMs),
      denial.code,
      denial.licenseId || '-',
      [denial.namespace, denial.imageDigest.slice(0, SHORT_DIGEST) || denial.key].filter(Boolean).join('/'),
    ]),
  ];
  return [fields(status, nowMs), ...tables.filter((text) => text !== '')].join('\n');
}

function storeText({ plaintextBytes: used, plaintextCapacityBytes: capacity }: StatusResponse): string {
  return capacity === 0
    ? 'no store is mounted that answers'
    : `${formatBytes(used)} of ${formatBytes(capacity)}`;
}

function fields(status: StatusResponse, nowMs: number): string {
  const isActivated = status.nodeId !== '';
  return formatFields([
    ['node', isActivated ? status.nodeId : 'not activated'],
    ['agent', status.version],
    ['mode', status.mode],
    ['protects', status.modeProtects],
    ['does not', status.modeDoesNotProtect],
    ['containerd', status.containerdVersion === '' ? 'not reachable' : status.containerdVersion],
    ['certificate', isActivated ? `ends ${instant(status.certificateExpiresAtMs, nowMs)}` : undefined],
    ['node key', status.nodeKey === 'file' ? 'in a file' : status.nodeKey],
    ['key server', `${status.keyServer} (${status.keyServerConnected ? 'connected' : 'not connected'})`],
    ['last contact', status.lastContactMs === 0 ? 'never' : instant(status.lastContactMs, nowMs)],
    ['plaintext', storeText(status)],
    ['snapshots', `${status.snapshotCount}, ${status.gatedSnapshotCount} of them in memory`],
  ]);
}

function table<Row>(
  first: string,
  others: readonly string[],
  rows: readonly Row[],
  cells: (row: Row) => string[],
): string {
  return rows.length === 0 ? '' : formatTable([first, ...others], rows.map(cells));
}

/** `2026-11-30T12:00:00.000Z (in 23 min)` */
function instant(timeMs: number, nowMs: number): string {
  return `${new Date(timeMs).toISOString()} (${distance(timeMs - nowMs)})`;
}

const UNITS = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['min', 60_000],
  ['s', 1000],
] as const;

function distance(spanMs: number): string {
  const lengthMs = Math.abs(spanMs);
  const [unit, unitMs] = UNITS.find(([, ms]) => lengthMs >= ms) ?? ['s', 1000];
  const text = `${Math.floor(lengthMs / unitMs)} ${unit}`;
  return spanMs >= 0 ? `in ${text}` : `${text} ago`;
}
