/** The key server's log: one JSON object a line on stderr, never a secret. */
import { type Logger, destination, pino } from 'pino';
import { redact } from './redaction.ts';

/** Fields that hold secrets wherever they appear. */
const SECRETS = ['licenseKey', 'token', 'authorization', 'sealedImageKey', 'imageKey', 'key'];

export function createLogger(level: string): Logger {
  const paths = SECRETS.flatMap((name) => [name, `*.${name}`, `*.*.${name}`]);
  return pino(
    { level, base: null, redact: { paths, censor: '[secret]' }, hooks: { streamWrite: redact } },
    destination({ dest: 2, sync: true }),
  );
}
