import { beforeEach, describe, expect, test } from 'vitest';
import { ContainerStopper, type Stoppable } from '../../../shim/agent/container-stopper.ts';
import { type ManualClock, manualClock } from '../../fakes/manual-clock.ts';

const GRACE_MS = 10_000;

let clock: ManualClock;
let sent: string[];
let stopper: ContainerStopper;

beforeEach(() => {
  clock = manualClock();
  sent = [];
  stopper = new ContainerStopper({
    clock,
    stopGraceMs: GRACE_MS,
    signal: ({ namespace, containerId }, signal) => {
      sent.push(`${namespace}/${containerId} ${signal}`);
      return Promise.resolve();
    },
  });
});

function container(containerId: string, how: 'stop' | 'kill'): Stoppable {
  const image = 'registry/acme:1';
  const workload = {
    namespace: 'k8s.io',
    containerId,
    image,
    snapshotter: 'latchkey',
    snapshotKey: containerId,
  };
  return { workload: { ...workload, labels: {}, createdAtMs: 0, state: 'running' }, how };
}

async function step(...containers: Stoppable[]): Promise<string[]> {
  sent = [];
  await stopper.step(containers);
  return sent;
}

describe('a container', () => {
  test('that is to be killed gets SIGKILL at each step until it is gone', async () => {
    expect(await step(container('one', 'kill'))).toEqual(['k8s.io/one 9']);
    expect(await step(container('one', 'kill'))).toEqual(['k8s.io/one 9']);
  });

  test('that is to be stopped gets SIGTERM once, and SIGKILL when its time is up', async () => {
    expect(await step(container('one', 'stop'))).toEqual(['k8s.io/one 15']);
    clock.advance(GRACE_MS - 1);
    expect(await step(container('one', 'stop'))).toEqual([]);
    clock.advance(1);
    expect(await step(container('one', 'stop'))).toEqual(['k8s.io/one 9']);
    expect(await step(container('one', 'stop'))).toEqual(['k8s.io/one 9']);
  });

  test('that comes later has its own time', async () => {
    await step(container('one', 'stop'));
    clock.advance(GRACE_MS);
    expect(await step(container('one', 'stop'), container('two', 'stop'))).toEqual([
      'k8s.io/one 9',
      'k8s.io/two 15',
    ]);
  });

  test('of the same name, made again, is asked first again', async () => {
    await step(container('one', 'stop'));
    await step();
    clock.advance(GRACE_MS);
    expect(await step(container('one', 'stop'))).toEqual(['k8s.io/one 15']);
  });
});
