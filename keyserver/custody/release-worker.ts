/** The release thread: one message of jobs after the other, each answered by one with their results. It keeps no secret. */
import { parentPort } from 'node:worker_threads';
import { sealKey } from '#src/crypto/seal-key.ts';
import { signToken, signTogether } from '#src/crypto/sign-token.ts';
import { NodeKeys } from './node-keys.ts';
import type { ReleaseJob, ReleaseResult } from './release-job.ts';

const nodeKeys = new NodeKeys();

function run(job: ReleaseJob): ReleaseResult {
  try {
    return { ok: true, text: textOf(job) };
  } catch (error) {
    return { ok: false, error };
  }
}

function textOf(job: ReleaseJob): string {
  switch (job.kind) {
    case 'sign':
      return signToken(job.type, job.payload, job.privateKey);
    case 'sign-together':
      return signTogether(job.listType, job.payloads, job.privateKey);
    case 'seal':
      return sealKey(nodeKeys.read(job.recipient), job.key, job.purpose);
  }
}

parentPort?.on('message', (jobs: readonly ReleaseJob[]) => {
  parentPort?.postMessage(jobs.map(run));
});
