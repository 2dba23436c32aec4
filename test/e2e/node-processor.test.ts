/** The stream processor that Node runs, for machines without a native one, in a real pull and a real start. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { describeOnEachContainerd } from './each-containerd.ts';
import { GatedSite, SECRET } from './gated-site.ts';

describeOnEachContainerd('a node with the processor that Node runs', (containerd) => {
  let gated: GatedSite;

  beforeAll(async () => {
    gated = await GatedSite.start({ containerd, agentSettings: { processor: 'node' } });
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
    expect((await gated.pullWithCtr()).status).toBe(0);
    const { status, output } = await gated.runWithCtr('node-processor');
    expect(output).toContain(`${SECRET} one`);
    expect(status).toBe(0);
  });
});
