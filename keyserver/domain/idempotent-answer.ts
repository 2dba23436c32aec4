/**
 * Requests that may be repeated: the answer is stored in the transaction that does the work, so a repeat after a lost
 * answer, a crash or side by side gets the first one's answer and does nothing.
 * An answer may hold a license key or token, which is shown to nobody else: it is sealed under a key that only the
 * key server together with the Idempotency-Key, which it does not keep, can derive.
 */
import { createHmac, hkdfSync } from 'node:crypto';
import { LatchkeyError } from '#src/base/errors.ts';
import type { Actor } from '../audit/append-event.ts';
import { unwrapKey, wrapKey } from '../custody/wrapped-key.ts';
import { withWrites } from '../db/other-writes.ts';
import type { Reader, Urgency, Writer } from '../db/store.ts';
import { IDEMPOTENT_ANSWER_AGE_MS } from '../limits.ts';
import { type KeyServer, withStore } from './key-server.ts';

export interface RepeatableRequest {
  readonly actor: Actor;
  /** The Idempotency-Key that the caller has chosen. */
  readonly idempotencyKey: string;
  /** Method, route and checked input as one text: a key belongs to one request. */
  readonly content: string;
}

/**
 * Runs an operation at most once for an Idempotency-Key of a caller.
 * @param operation gets a server whose one write is remembered; it must answer with what that write gives
 * @throws LatchkeyError DENIED_SEALED, STATE_CONFLICT when the key was used for another request, and what the operation throws
 */
export async function answerOnce<Answer>(
  server: KeyServer,
  request: RepeatableRequest,
  operation: (server: KeyServer) => Promise<Answer>,
): Promise<Answer> {
  const kept = new KeptAnswer(server, request);
  // First, because a repeat is answered even if the operation would now be refused.
  const earlier = await kept.find(server.store.read);
  // The request digest fits, so it is this operation's answer; the route's schema filters it again.
  if (earlier !== null) return earlier.answer as Answer;
  const { store } = server;
  return operation(
    withStore(
      server,
      withWrites(store, <Result>(work: (writer: Writer) => Promise<Result>, urgency?: Urgency) =>
        store.write(async (writer) => {
          // A request side by side may have been first; writes come one after the other.
          const first = await kept.find(writer);
          if (first !== null) return first.answer as Result;
          const answer = await work(writer);
          const nowMs = server.clock.nowMs();
          await writer.deleteFrom('idempotent_answer').where('expires_at_ms', '<=', nowMs).execute();
          await writer.insertInto('idempotent_answer').values(kept.toRow(answer, nowMs)).execute();
          return answer;
        }, urgency),
      ),
    ),
  );
}

/** What was asked for may need no key; to answer its repeat does, and doing it twice would be worse than waiting. */
function keepsNothing(): LatchkeyError {
  return new LatchkeyError('DENIED_SEALED', 'the key server is sealed, and can keep no answer for a repeat', {
    hint: 'unseal it first; suspending, revoking, blocking and banning go on',
  });
}

class KeptAnswer {
  readonly #server: KeyServer;
  readonly #keyDigest: string;
  readonly #requestDigest: string;
  readonly #sealingKey: Uint8Array;

  constructor(server: KeyServer, { actor, idempotencyKey, content }: RepeatableRequest) {
    if (server.seal.isSealed) throw keepsNothing();
    const { lookupKey } = server.keys;
    const named = `${actor}\n${idempotencyKey}`;
    this.#server = server;
    this.#keyDigest = createHmac('sha256', lookupKey).update(`idempotency-key\n${named}`).digest('hex');
    this.#requestDigest = createHmac('sha256', lookupKey)
      .update(`idempotent-request\n${content}`)
      .digest('hex');
    this.#sealingKey = Buffer.from(hkdfSync('sha256', lookupKey, '', `latchkey/idempotency\n${named}`, 32));
  }

  async find(reader: Reader): Promise<{ answer: unknown } | null> {
    const row = await reader
      .selectFrom('idempotent_answer')
      .select(['request_digest', 'sealed_answer'])
      .where('key_digest', '=', this.#keyDigest)
      .where('expires_at_ms', '>', this.#server.clock.nowMs())
      .executeTakeFirst();
    if (row === undefined) return null;
    if (row.request_digest !== this.#requestDigest) {
      throw new LatchkeyError('STATE_CONFLICT', 'the Idempotency-Key was used for another request', {
        hint: 'choose a new key for each request, and repeat a request with its own key only',
      });
    }
    const json = Buffer.from(unwrapKey(this.#sealingKey, row.sealed_answer, this.#purpose())).toString();
    return { answer: JSON.parse(json) as unknown };
  }

  toRow(answer: unknown, nowMs: number) {
    return {
      key_digest: this.#keyDigest,
      organization_id: this.#server.organizationId,
      request_digest: this.#requestDigest,
      sealed_answer: wrapKey(this.#sealingKey, Buffer.from(JSON.stringify(answer)), this.#purpose()),
      expires_at_ms: nowMs + IDEMPOTENT_ANSWER_AGE_MS,
    };
  }

  #purpose(): string {
    return `latchkey/${this.#server.organizationId}/idempotent-answer/${this.#keyDigest}`;
  }
}
