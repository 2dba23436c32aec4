/** The chain of a refusal in the log: what followed it, and how long after. */
import type { Logger } from 'pino';
import type { Clock } from '#src/base/clock.ts';
import type { EnforcementEvents } from './enforcement.ts';
import type { AgentMetrics } from './metrics.ts';
import type { PlaintextReporterEvents } from './plaintext-reporter.ts';
import type { RefusedLicense } from './refused-licenses.ts';

export function enforcementLog(log: Logger, clock: Clock, metrics: AgentMetrics): EnforcementEvents {
  const sinceRefusal = ({ licenseId, sinceMonotonicMs }: RefusedLicense) => ({
    licenseId,
    afterMs: Math.round(clock.monotonicMs() - sinceMonotonicMs),
  });
  return {
    onContainersStopped: (license, containers) => {
      log.info({ ...sinceRefusal(license), containers }, 'containers stopped');
      metrics.containersStopped(containers.length);
    },
    onPlaintextGone: (license) => {
      log.info(sinceRefusal(license), 'plaintext gone');
    },
    onFailed: (error) => {
      log.warn({ error: error.line }, 'licenses could not be enforced; trying again');
    },
  };
}

export function reportLog(log: Logger): PlaintextReporterEvents {
  return {
    onReported: (report) => {
      log.info(report, 'reported to the key server');
    },
    onRefused: ({ licenseId }, error) => {
      log.warn({ licenseId, error: error.line }, 'the key server does not take the report');
    },
  };
}
