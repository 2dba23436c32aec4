/** This agent's session with the key server: opened once for each run, and again when the key server asks for it. */
import { randomBytes } from 'node:crypto';
import type { Clock } from '#src/base/clock.ts';
import { KeyedMutex } from '#src/base/keyed-mutex.ts';
import { CHAIN_WINDOW } from '#src/licensing/node-chain.ts';
import type {
  ChainPosition,
  OpenSessionRequest,
  OpenSessionResponse,
} from '#src/wire/generated/latchkey/node.ts';
import type { Machine } from './machine.ts';
import type { NodeMemory } from './node-memory.ts';

const REQUEST_ID_BYTES = 16;
/** So that requests under way at once stay well inside the window in which they may overtake each other. */
const MAX_UNDER_WAY = CHAIN_WINDOW / 2;
const OPENING = 'opening';

export interface SessionParts {
  readonly memory: NodeMemory;
  readonly machine: Machine;
  readonly clock: Clock;
  readonly open: (request: OpenSessionRequest) => Promise<OpenSessionResponse>;
}

export class NodeSession {
  readonly #parts: SessionParts;
  readonly #openings = new KeyedMutex<string>();
  readonly #waiting: (() => void)[] = [];
  #underWay = 0;
  /** The token of the session that this run has opened. */
  #token: string | undefined;
  #isStale = false;
  #counter = 0;

  constructor(parts: SessionParts) {
    this.#parts = parts;
  }

  /**
   * Makes a request with the next position of the session.
   * @throws what the request or the opening throws
   */
  async use<Result>(request: (position: ChainPosition) => Promise<Result>): Promise<Result> {
    await this.#enter();
    try {
      await this.#ready();
      this.#counter += 1;
      return await request(this.#position());
    } finally {
      this.#underWay -= 1;
      this.#waiting.shift()?.();
    }
  }

  /** Where the node stands; for requests that change nothing. */
  async stand(): Promise<ChainPosition> {
    await this.#ready();
    return this.#position();
  }

  /** The key server did not take a position. Nothing happens when the session is another one by now. */
  outdated(position: ChainPosition): void {
    if (position.token === this.#token) this.#isStale = true;
  }

  #position(): ChainPosition {
    const { sequence, token } = this.#parts.memory.place;
    return { sequence, token, counter: this.#counter };
  }

  async #enter(): Promise<void> {
    while (this.#underWay >= MAX_UNDER_WAY) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#underWay += 1;
  }

  async #ready(): Promise<void> {
    await this.#openings.run(OPENING, async () => {
      if (this.#token === undefined || this.#isStale) await this.#open();
    });
  }

  /** What is asked is noted before and what is answered after, so that an agent may be killed at any moment. */
  async #open(): Promise<void> {
    const { memory, machine, clock, open } = this.#parts;
    const { sequence, token, pendingRequestId } = memory.place;
    const requestId = pendingRequestId ?? randomBytes(REQUEST_ID_BYTES).toString('hex');
    if (pendingRequestId === undefined)
      await memory.keepPlace({ sequence, token, pendingRequestId: requestId });
    const answer = await open({
      position: { sequence, token, counter: this.#counter },
      isRunning: this.#token !== undefined,
      requestId,
      ...machine,
      bootTimeMs: Math.floor(clock.monotonicMs()),
      seenRevision: memory.revision,
    });
    await memory.keepPlace({ sequence: answer.sequence, token: answer.token });
    this.#token = answer.token;
    this.#isStale = false;
    this.#counter = 0;
  }
}
