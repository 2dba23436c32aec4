/** May this node start this image now? Asked by a start, and by a preflight that changes nothing: one answer for both. */
import { type Allowed, type Denied, decide } from '#src/licensing/decide.ts';
import { together } from '../db/open-transaction.ts';
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
  const [facts, licenses] = await together(
    loadStart(reader, server.organizationId, question),
    loadNodeLicenses(reader, question.nodeId, nowMs),
  );
  const { organization, node, image, answered } = facts;
  const decision = decide({
    sealed: server.seal.isSealed,
    node,
    // Those of a node whose certificate is not that of its key are not looked at.
    licenses: node === null ? [] : licenses,
    image,
    nowMs,
    nodeTimeMs: question.nodeTimeMs,
    answered,
    defaultContact: organization.contact,
  });
  return { ...facts, decision };
}
