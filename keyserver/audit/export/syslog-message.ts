/** An audit event as a syslog message (RFC 5424), framed for a stream by its length (RFC 5425, section 4.3). */
import type { AuditEvent } from '#src/crypto/audit-chain.ts';

/** What receivers should take (RFC 5425, section 4.3.1); many cut off or split what is longer. */
export const MAX_SYSLOG_MESSAGE_BYTES = 8192;

/** "log audit" of RFC 5424, table 1. */
const FACILITY = 13;
const WARNING = 4;
const NOTICE = 5;
const VERSION = 1;
const APP_NAME = 'latchkey';
const MAX_HOSTNAME = 255;
const MAX_MESSAGE_ID = 32;
/** The largest sequenceId of RFC 5424, section 7.3.1; after it comes 1. */
const MAX_SEQUENCE_ID = 2_147_483_647;
/** The number that RFC 5612 reserves for those who have none of their own. */
const STRUCTURED_DATA_ID = 'latchkey@32473';

/**
 * Gives the framed message. Its text is the event as JSON, as in an export; where that is too long, without the detail
 * (which `hash` covers) and with `detail="omitted"`.
 * @param hostname of this machine
 */
export function syslogFrame(event: AuditEvent, hostname: string): Buffer {
  const whole = message(event, hostname, []);
  const bytes =
    whole.length <= MAX_SYSLOG_MESSAGE_BYTES
      ? whole
      : message({ ...event, detail: {} }, hostname, [['detail', 'omitted']]);
  return Buffer.concat([Buffer.from(`${bytes.length} `), bytes]);
}

type Parameter = readonly [name: string, value: string];

function message(event: AuditEvent, hostname: string, more: readonly Parameter[]): Buffer {
  const priority = FACILITY * 8 + (event.outcome === 'denied' ? WARNING : NOTICE);
  const header = [
    `<${priority}>${VERSION}`,
    new Date(event.timeMs).toISOString(),
    printable(hostname, MAX_HOSTNAME),
    APP_NAME,
    '-',
    printable(event.action, MAX_MESSAGE_ID),
  ];
  const parameters: Parameter[] = [
    ['sequence', String(event.sequence)],
    ['organizationId', event.organizationId],
    ['actor', event.actor],
    ...(event.authMethod === undefined ? [] : [['authMethod', event.authMethod] as const]),
    ['action', event.action],
    ['target', event.target],
    ['outcome', event.outcome],
    ...(event.code === null ? [] : [['code', event.code] as const]),
    ...(event.requestId === undefined ? [] : [['requestId', event.requestId] as const]),
    ['hash', event.hash],
    ...more,
  ];
  const sequenceId = ((event.sequence - 1) % MAX_SEQUENCE_ID) + 1;
  const data = [
    element('meta', [['sequenceId', String(sequenceId)]]),
    element(STRUCTURED_DATA_ID, parameters),
  ];
  return Buffer.from(`${header.join(' ')} ${data.join('')} ${JSON.stringify(event)}`);
}

function element(id: string, parameters: readonly Parameter[]): string {
  return `[${[id, ...parameters.map(([name, value]) => `${name}="${escaped(value)}"`)].join(' ')}]`;
}

/** RFC 5424, section 6.3.3. Receivers write lines: a control character of a node's must not begin a new one. */
function escaped(value: string): string {
  return value.replaceAll(/[\p{Cc}\u2028\u2029]/gu, '?').replaceAll(/["\\\]]/g, String.raw`\$&`);
}

/** PRINTUSASCII without spaces, `-` for nothing. */
function printable(text: string, limit: number): string {
  const plain = text.replaceAll(/[^\x21-\x7e]/g, '?').slice(0, limit);
  return plain === '' ? '-' : plain;
}
