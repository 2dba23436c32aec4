// Our layouts read by skopeo, and skopeo's by us.
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { copyImage } from '#src/store/copy.ts';
import { openLayout } from '#src/store/layout.ts';
import { createMemoryStore } from '#src/store/memory.ts';
import { fakeImage, storeImage } from '../fakes/image.ts';

const SKOPEO = '/usr/bin/skopeo';

test.skipIf(!existsSync(SKOPEO))(
  'skopeo copies our layout, and we read its copy (needs skopeo)',
  async () => {
    const root = await mkdtemp(join(tmpdir(), 'latchkey-skopeo-'));
    try {
      const [ours, theirs] = [join(root, 'ours'), join(root, 'theirs')];
      const image = fakeImage([100_000, 5]);
      await storeImage(openLayout(ours), image, 'v1');
      execFileSync(SKOPEO, ['copy', '--quiet', '--preserve-digests', `oci:${ours}:v1`, `oci:${theirs}`]);
      const back = createMemoryStore();
      await copyImage(openLayout(theirs), back);
      expect((await back.readManifest()).descriptor.digest).toBe(image.manifest.descriptor.digest);
      execFileSync(SKOPEO, ['copy', '--quiet', '--preserve-digests', `oci:${theirs}`, `oci:${ours}:v2`]);
      expect((await openLayout(ours).readManifest('v2')).bytes).toEqual((await back.readManifest()).bytes);
    } finally {
      await rm(root, { recursive: true, force: true });
    }
  },
);
