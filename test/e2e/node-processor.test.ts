/** The stream processor that Node runs, for machines without a native one, in a real pull and a real start. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { GatedSite, SECRET, siteSkipReason } from './gated-site.ts';

const skipReason = siteSkipReason();

describe.skipIf(skipReason !== undefined)(
  `a node with the processor that Node runs ${skipReason ?? ''}`,
  () => {
    let gated: GatedSite;

    beforeAll(async () => {
      gated = await GatedSite.start({ agentSettings: { processor: 'node' } });
    });
    afterAll(async () => {
      await gated.stop();
    });

    test('shows why an image is refused, and pulls and runs it under a license', async () => {
      expect(await gated.site.agent.log()).toContain('"processor":"node"');
      const refused = await gated.pullWithCtr();
      expect(refused.status).not.toBe(0);
      expect(refused.output).toContain('DENIED_NODE_NOT_ACTIVATED');
      await gated.activate();
      await gated.site.cri.pullImage(gated.image);
      const { status, output } = await gated.runWithCtr('node-processor');
      expect(output).toContain(`${SECRET} one`);
      expect(status).toBe(0);
    });
  },
);
