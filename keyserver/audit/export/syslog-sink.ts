/**
 * Sends the audit log to a syslog receiver over TCP (RFC 6587, octet counting) or TLS (RFC 5425). Syslog has no
 * acknowledgement. So each batch has a connection of its own: that the receiver ends it in an orderly way, after we have
 * ended our side, says that it has read everything.
 */
import { type Socket, connect as connectTcp, isIP } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { LatchkeyError } from '#src/base/errors.ts';
import { OUTBOUND_TLS_VERSION } from '../../outbound-tls.ts';
import type { SyslogTarget } from './export-target.ts';
import type { AuditSink } from './sink.ts';
import { syslogFrame } from './syslog-message.ts';

/**
 * @param hostname of this machine, for the messages
 * @param ca certificate that receivers are verified with; null = those of the system
 */
export function syslogSink(target: SyslogTarget, hostname: string, ca: Buffer | null): AuditSink {
  return {
    send: (events, signal) =>
      deliver(target, ca, Buffer.concat(events.map((event) => syslogFrame(event, hostname))), signal),
  };
}

function deliver(target: SyslogTarget, ca: Buffer | null, bytes: Buffer, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = open(target, ca);
    const cut = () => {
      socket.destroy(signal.reason as Error);
    };
    signal.addEventListener('abort', cut, { once: true });
    let hasEnded = false;
    socket.once(target.isTls ? 'secureConnect' : 'connect', () => socket.end(bytes));
    socket.once('end', () => {
      hasEnded = socket.writableFinished;
    });
    socket.once('error', reject);
    socket.once('close', () => {
      signal.removeEventListener('abort', cut);
      if (hasEnded) resolve();
      else reject(notTaken(target));
    });
    // Receivers say nothing, but their end is only seen by who reads.
    socket.resume();
    if (signal.aborted) cut();
  });
}

function open({ host, port, isTls }: SyslogTarget, ca: Buffer | null): Socket {
  if (!isTls) return connectTcp({ host, port });
  return connectTls({
    host,
    port,
    // RFC 6066, section 3: a name, never an address.
    ...(isIP(host) === 0 ? { servername: host } : {}),
    minVersion: OUTBOUND_TLS_VERSION,
    ...(ca === null ? {} : { ca }),
  });
}

function notTaken(target: SyslogTarget): LatchkeyError {
  return new LatchkeyError(
    'NET_UNREACHABLE',
    `${target.name} ended the connection before it had read everything`,
    {
      hint: 'see the log of the receiver',
    },
  );
}
