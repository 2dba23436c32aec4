/** Posts the audit log to an HTTP address: events as JSON, one a line (`application/x-ndjson`). */
import { LatchkeyError } from '#src/base/errors.ts';
import { post } from '../../outbound-post.ts';
import type { HttpTarget } from './export-target.ts';
import type { AuditSink } from './sink.ts';

/**
 * @param ca certificate that the server is verified with; null = those of the system
 * @param readToken gives the bearer token; asked each time, for tokens are renewed
 */
export function httpSink(
  target: HttpTarget,
  ca: Buffer | null,
  readToken: (() => Promise<string>) | null,
): AuditSink {
  return {
    send: async (events, signal) => {
      const status = await post({
        url: target.url,
        headers: {
          'content-type': 'application/x-ndjson',
          ...(readToken === null ? {} : { authorization: `Bearer ${await readToken()}` }),
        },
        body: Buffer.from(events.map((event) => `${JSON.stringify(event)}\n`).join('')),
        ca,
        signal,
      });
      if (status >= 200 && status < 300) return;
      throw new LatchkeyError('NET_UNREACHABLE', `${target.name} answered with status ${status}`, {
        hint: 'it has to answer with 2xx once it has stored the events; redirects are not followed',
      });
    },
  };
}
