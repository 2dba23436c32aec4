import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  CHAIN_WINDOW,
  type ChainOpening,
  type ChainPosition,
  type NodeSession,
  isNewest,
  judgeOpening,
  takeCounter,
} from '#src/licensing/node-chain.ts';

const session: NodeSession = {
  sequence: 7,
  token: 'seven',
  previousToken: 'six',
  openedBy: 'request-7',
  machine: 'machine-1',
  boot: 'boot-1',
  bootTimeMs: 1000,
  counter: 10,
  window: 0b1,
};
const newest: ChainOpening = {
  sequence: 7,
  token: 'seven',
  counter: 0,
  isRunning: false,
  requestId: 'request-8',
  machine: 'machine-1',
  boot: 'boot-1',
  bootTimeMs: 2000,
};
const older = { ...newest, sequence: 6, token: 'six' };
const running = { ...newest, isRunning: true, counter: 10 };

describe('an opening', () => {
  test.each<[string, NodeSession | undefined, ChainOpening, string]>([
    ['of a node that is new', undefined, { ...newest, sequence: 0, token: '' }, 'open'],
    ['after an administrator has let the node in again', undefined, older, 'open'],
    ['of an agent that was restarted', session, newest, 'open'],
    ['after a reboot', session, { ...newest, boot: 'boot-2', bootTimeMs: 5 }, 'open'],
    ['after the disk was moved to another machine', session, { ...newest, machine: 'machine-2' }, 'open'],
    ['of an agent that was asked to', session, running, 'open'],
    ['whose answer got lost', session, { ...older, requestId: 'request-7' }, 'repeat'],
    ['of a disk that was restored', session, older, 'restored'],
    ['of a disk that was restored, after a reboot', session, { ...older, boot: 'boot-2' }, 'restored'],
    ['of a node whose state was deleted', session, { ...newest, sequence: 0, token: '' }, 'restored'],
    ['of memory that was restored inside a session', session, { ...running, counter: 9 }, 'restored'],
    [
      'of memory that was restored to before a session',
      session,
      { ...running, ...older, bootTimeMs: 500 },
      'restored',
    ],
    [
      'of memory that was restored to before a reboot',
      session,
      { ...running, token: 'six', boot: 'boot-0' },
      'restored',
    ],
    [
      'of a machine that went back without a trace of it on the disk',
      session,
      { ...newest, bootTimeMs: 999 },
      'restored',
    ],
    ['of a copy on another machine', session, { ...older, machine: 'machine-2' }, 'cloned'],
    [
      'of an agent beside another on the same machine',
      session,
      { ...running, sequence: 6, token: 'six' },
      'cloned',
    ],
    [
      'of copied memory on another machine',
      session,
      { ...running, counter: 3, machine: 'machine-2' },
      'cloned',
    ],
    [
      'of a node that knows more than the server',
      session,
      { ...newest, sequence: 8, token: 'eight' },
      'server-rollback',
    ],
  ])('%s', (_case, stored, opening, verdict) => {
    expect(judgeOpening(stored, opening)).toBe(verdict);
  });
});

describe('the counter of a request', () => {
  const at = (counter: number): ChainPosition => ({ sequence: 7, token: 'seven', counter });
  test.each<[string, NodeSession | undefined, ChainPosition | undefined, unknown]>([
    ['moves on', session, at(11), { counter: 11, window: 0b11 }],
    ['may leave gaps, since requests get lost', session, at(14), { counter: 14, window: 0b10001 }],
    ['may be overtaken', session, at(8), { counter: 10, window: 0b101 }],
    ['counts once', session, at(10), 'stale'],
    ['is not looked for beyond the window', { ...session, counter: 100 }, at(100 - CHAIN_WINDOW), 'stale'],
    ['of another session does not count', session, { ...at(11), token: 'six' }, 'stale'],
    ['is not needed by nodes that are too old for one', undefined, undefined, 'unchanged'],
    ['cannot be left out once there was one', session, undefined, 'stale'],
    ['without a session asks for one', undefined, at(1), 'stale'],
  ])('%s', (_case, stored, position, result) => {
    expect(takeCounter(stored, position)).toEqual(result);
  });

  test('is taken once each, in whatever order requests arrive inside the window', () => {
    const order = fc.shuffledSubarray(Array.from({ length: CHAIN_WINDOW }, (_value, index) => index + 11));
    fc.assert(
      fc.property(order, (counters) => {
        let stored = session;
        for (const counter of counters) {
          const mark = takeCounter(stored, at(counter));
          expect(mark).not.toBe('stale');
          stored = { ...stored, ...(mark as { counter: number; window: number }) };
          expect(takeCounter(stored, at(counter))).toBe('stale');
        }
      }),
    );
  });

  test('of a request that changes nothing may stand still but not go back', () => {
    expect(isNewest(session, at(10))).toBe(true);
    expect(isNewest(session, at(9))).toBe(false);
    expect(isNewest(session, { ...at(10), token: 'six' })).toBe(false);
    expect(isNewest(undefined, undefined)).toBe(true);
    expect(isNewest(session, undefined)).toBe(false);
  });
});

interface WorldNode {
  disk: { sequence: number; token: string };
  pending: string | undefined;
  isRunning: boolean;
  counter: number;
  machine: string;
  boot: string;
  timeMs: number;
}

/** A key server and nodes that hold the same identity, each with its own disk. */
class World {
  session: NodeSession | undefined;
  #next = 0;

  open(node: WorldNode, options: { answerArrives: boolean }): string {
    node.pending ??= `request-${this.#next++}`;
    const opening: ChainOpening = {
      ...node.disk,
      counter: node.counter,
      isRunning: node.isRunning,
      requestId: node.pending,
      machine: node.machine,
      boot: node.boot,
      bootTimeMs: (node.timeMs += 10),
    };
    const verdict = judgeOpening(this.session, opening);
    if (verdict === 'open') {
      this.session = {
        sequence: Math.max(opening.sequence, this.session?.sequence ?? 0) + 1,
        token: `token-${this.#next++}`,
        previousToken: opening.token,
        openedBy: opening.requestId,
        ...{ machine: opening.machine, boot: opening.boot, bootTimeMs: opening.bootTimeMs },
        ...{ counter: 0, window: 1 },
      };
    }
    if ((verdict === 'open' || verdict === 'repeat') && options.answerArrives) {
      const { sequence = 0, token = '' } = this.session ?? {};
      Object.assign(node, { disk: { sequence, token }, pending: undefined, isRunning: true, counter: 0 });
    }
    return verdict;
  }

  ask(node: WorldNode): 'good' | 'stale' {
    node.counter += 1;
    const mark = takeCounter(this.session, { ...node.disk, counter: node.counter });
    if (mark === 'stale' || mark === 'unchanged') return 'stale';
    this.session = { ...this.session!, ...mark };
    return 'good';
  }
}
function newNode(): WorldNode {
  return {
    disk: { sequence: 0, token: '' },
    ...{ pending: undefined, isRunning: false, counter: 0, machine: 'm', boot: 'b0', timeMs: 0 },
  };
}

const EVENTS = ['ask', 'ask', 'restart', 'reboot', 'lost answer', 'late answer', 'told to open'] as const;

/** One thing that happens to an honest node. */
function happen(world: World, node: WorldNode, event: (typeof EVENTS)[number]): string[] {
  const crash = (): void => {
    Object.assign(node, { isRunning: false, counter: 0 });
  };
  switch (event) {
    case 'ask':
      return node.isRunning ? [world.ask(node)] : [world.open(node, { answerArrives: true })];
    case 'restart':
      crash();
      return [world.open(node, { answerArrives: true })];
    case 'reboot':
      crash();
      node.boot = `${node.boot}+`;
      node.timeMs = 0;
      return [world.open(node, { answerArrives: true })];
    case 'lost answer':
    case 'late answer': {
      // Killed between question and answer, or before the answer was on the disk.
      if (event === 'lost answer') crash();
      const verdict = world.open(node, { answerArrives: false });
      crash();
      return [verdict];
    }
    case 'told to open':
      return [world.open(node, { answerArrives: true })];
  }
}

describe('over any history', () => {
  const history = fc.array(fc.constantFrom(...EVENTS), { maxLength: 60 });

  test('an honest node is never refused, whenever it is killed, rebooted or cut off', () => {
    fc.assert(
      fc.property(history, (events) => {
        const [world, node] = [new World(), newNode()];
        const answers = events.flatMap((event) => happen(world, node, event));
        expect(answers.filter((answer) => !['open', 'repeat', 'good'].includes(answer))).toEqual([]);
      }),
      { numRuns: 500 },
    );
  });

  test('of two holders of one identity, one is found as soon as both have asked', () => {
    fc.assert(
      fc.property(history, fc.boolean(), fc.boolean(), (events, isOtherMachine, withMemory) => {
        const [world, node] = [new World(), newNode()];
        for (const event of [...events, 'restart' as const]) happen(world, node, event);
        const copy = { ...node, machine: isOtherMachine ? 'n' : 'm' };
        if (!withMemory) Object.assign(copy, { isRunning: false, counter: 0 });
        const found: string[] = [];
        for (let turn = 0; turn < 4; turn += 1) {
          for (const holder of [copy, node]) {
            // As the agent does: a request that does not fit is followed by an opening.
            const answer = holder.isRunning ? world.ask(holder) : 'stale';
            if (answer === 'stale') found.push(world.open(holder, { answerArrives: true }));
          }
        }
        expect(found.some((verdict) => verdict === 'cloned' || verdict === 'restored')).toBe(true);
      }),
      { numRuns: 500 },
    );
  });
});
