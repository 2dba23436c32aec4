/** What the enforcement asks the key server for what runs. The rest of it is tested on real containerds (test/e2e/on-revoke). */
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { digestOf } from '#src/oci/digest.ts';
import { Enforcement } from '../../../shim/agent/enforcement.ts';
import type { GatedWorkload } from '../../../shim/agent/gated-workloads.ts';
import { LeaseKeeper } from '../../../shim/agent/lease-keeper.ts';
import { LicensedImages } from '../../../shim/agent/licensed-images.ts';
import { NO_PLAINTEXT } from '../../../shim/agent/plaintext-holder.ts';
import { PlaintextReporter } from '../../../shim/agent/plaintext-reporter.ts';
import { RefusedLicenses } from '../../../shim/agent/refused-licenses.ts';
import { Standings } from '../../../shim/agent/standing.ts';
import { ContainerdConnection } from '../../../shim/containerd/connection.ts';
import { LeaseIssuer } from '../../fakes/lease-issuer.ts';
import { manualClock } from '../../fakes/manual-clock.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const directory = temporaryDirectory();
const subject = { imageDigest: digestOf('an image'), imageKeyId: 'key-1' };

const refusal = (licenseId: string) =>
  new LatchkeyError('DENIED_LICENSE_SUSPENDED', 'suspended', { licenseId });

const workload: GatedWorkload = {
  workload: {
    ...{ namespace: 'default', containerId: 'c', image: 'i', snapshotter: 'latchkey', snapshotKey: 'c' },
    ...{ labels: {}, createdAtMs: 0, state: 'running' },
  },
  chain: [
    {
      gate: {
        ...subject,
        ...{ element: '', publicOptions: '' },
        blob: {
          digest: digestOf('a layer'),
          mediaType: 'application/vnd.oci.image.layer.v1.tar',
          sizeBytes: 1,
        },
      },
    },
  ],
};

test('a container whose lease ended is asked for under another license, also when the image was denied just before', async () => {
  const clock = manualClock();
  const issuer = new LeaseIssuer(clock);
  const images = new LicensedImages(join(directory(), 'images.json'));
  const refused = new RefusedLicenses(clock);
  const leases: LeaseKeeper = new LeaseKeeper(clock, {
    onEnded: () => undefined,
    onGranted: (lease) => {
      images.record(lease.claims);
      enforcement.granted(lease.subject);
    },
  });
  leases.setAuthority(issuer.authority());
  // Nothing listens there, and nobody is asked there.
  const containerd = new ContainerdConnection(join(directory(), 'none.sock'));
  const enforcement = new Enforcement({
    ...{ containerd, leases, images, refused, clock, stopGraceMs: 0 },
    standings: new Standings({ leases, images, refused }),
    plaintext: { ...NO_PLAINTEXT, running: () => Promise.resolve([workload]) },
    passOnLayers: () => Promise.resolve(false),
    reporter: new PlaintextReporter(clock, { onRefused: () => undefined, onReported: () => undefined }),
    licenses: () => ['lic-1', 'lic-2'].map((licenseId) => ({ licenseId, productCode: 'web' })),
    events: {
      onContainersStopped: () => undefined,
      onPlaintextGone: () => undefined,
      onFailed: (error) => {
        throw error;
      },
    },
  });
  try {
    issuer.refusal = refusal('lic-1');
    refused.refuse('lic-1', refusal('lic-1'), 1);
    enforcement.trigger();
    await vi.waitFor(() => expect(leases.denialOf(subject)).toBeDefined(), { timeout: 60_000 });

    // A container starts under the first license, which then is suspended again.
    issuer.refusal = undefined;
    refused.allow('lic-1');
    const lease = await leases.require(subject, undefined);
    issuer.terms = { licenseId: 'lic-2' };
    refused.refuse('lic-1', refusal('lic-1'), 2);
    leases.end(lease, refusal('lic-1'));
    enforcement.trigger();
    await vi.waitFor(() => expect(leases.findGood(subject)?.claims.licenseId).toBe('lic-2'), {
      timeout: 60_000,
    });
  } finally {
    enforcement.stop();
    containerd.close();
  }
});
