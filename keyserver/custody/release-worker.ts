/** The release thread: one message of jobs after the other, each answered by one with their results. It keeps no secret. */
import { parentPort } from 'node:worker_threads';
import { sealKey } from '#src/crypto/seal-key.ts';
import { signToken } from '#src/crypto/sign-token.ts';
import { NodeKeys } from './node-keys.ts';
import type { ReleaseJob, ReleaseResult } from './release-job.ts';

const nodeKeys = new NodeKeys();

function run(job: ReleaseJob): ReleaseResult {
  try {
    const text =
      job.kind === 'sign'
        ? signToken(job.type, job.payload, job.privateKey)
        : sealKey(nodeKeys.read(job.recipient), job.key, job.purpose);
    return { ok: true, text };
  } catch (error) {
    return { ok: false, error };
  }
}

parentPort?.on('message', (jobs: readonly ReleaseJob[]) => {
  parentPort?.postMessage(jobs.map(run));
});
