/**
 * Reads what has changed for many nodes at once: one change of a license concerns all of its nodes in the same moment, and
 * each of them alone would take a transaction and four queries.
 */
import { setImmediate } from 'node:timers';
import { MAX_CHANGE_QUESTIONS } from '../limits.ts';
import { loadOrganization, loadWatchingNodes } from './decision-facts.ts';
import type { KeyServer } from './key-server.ts';
import {
  type ChangeFacts,
  type ChangeQuestion,
  type ChangesSince,
  changesSince,
  newsBegin,
} from './license-changes.ts';
import { loadChangedLicenses } from './license-facts.ts';

interface Asked {
  readonly question: ChangeQuestion;
  readonly resolve: (answer: ChangesSince) => void;
  readonly reject: (error: unknown) => void;
}

export class ChangeReader {
  readonly #server: KeyServer;
  #waiting: Asked[] = [];
  #reading = false;

  constructor(server: KeyServer) {
    this.#server = server;
  }

  /** Reads after the call, together with whoever else asks by then; see `changesSince`. */
  read(question: ChangeQuestion): Promise<ChangesSince> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ question, resolve, reject });
      if (!this.#reading) void this.#readAll();
    });
  }

  async #readAll(): Promise<void> {
    this.#reading = true;
    while (this.#waiting.length > 0) {
      // One turn of the event loop: everybody who has asked by then shares the queries.
      await new Promise<void>((resolve) => setImmediate(resolve));
      const group = this.#waiting.splice(0, MAX_CHANGE_QUESTIONS);
      try {
        const facts = await this.#load(group.map(({ question }) => question));
        for (const { question, resolve } of group) resolve(changesSince(facts, question));
      } catch (error) {
        for (const { reject } of group) reject(error);
      }
    }
    this.#reading = false;
  }

  /** In one transaction, so that the revision and the changes are of the same moment. */
  #load(questions: readonly ChangeQuestion[]): Promise<ChangeFacts> {
    const { store, organizationId, clock } = this.#server;
    const oldest = new Map<string, number>();
    for (const { identity, afterRevision } of questions) {
      const known = oldest.get(identity.nodeId) ?? afterRevision;
      oldest.set(identity.nodeId, Math.min(known, afterRevision));
    }
    const nodeIds = [...oldest.keys()];
    return store.read.transaction().execute(async (reader) => {
      const organization = await loadOrganization(reader, organizationId);
      const nodes = await loadWatchingNodes(reader, organizationId, nodeIds);
      const licenses = await loadChangedLicenses(reader, nodeIds, (nodeId, revision) => {
        const watching = nodes.get(nodeId);
        return watching !== undefined && revision > newsBegin(watching.node, oldest.get(nodeId) ?? 0);
      });
      return { organization, nodes, licenses, nowMs: clock.nowMs() };
    });
  }
}
