/** May this node start this image now? Asked by a start, and by a preflight that changes nothing: one answer for both. */
import { type Allowed, type Denied, decide } from '#src/licensing/decide.ts';
import type { Reader } from '../db/store.ts';
import { type StartFacts, type StartQuery, loadStart } from './decision-facts.ts';
import type { KeyServer } from './key-server.ts';
import { type GrantableLicense, loadNodeLicenses } from './license-facts.ts';

export interface StartQuestion extends StartQuery {
  readonly nodeTimeMs: number;
}

export interface StartDecision extends StartFacts {
  readonly decision: Allowed<GrantableLicense> | Denied;
}

/** Loads the facts and decides, inside the transaction of the caller. */
export async function decideStart(
  server: KeyServer,
  reader: Reader,
  question: StartQuestion,
  nowMs: number,
): Promise<StartDecision> {
  const facts = await loadStart(reader, server.organizationId, question);
  const { organization, node, image, answered } = facts;
  const decision = decide({
    sealed: server.seal.isSealed,
    node,
    licenses: node === null ? [] : await loadNodeLicenses(reader, node.nodeId, organization.contact, nowMs),
    image,
    nowMs,
    nodeTimeMs: question.nodeTimeMs,
    answered,
    defaultContact: organization.contact,
  });
  return { ...facts, decision };
}
