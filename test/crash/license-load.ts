/** Starts, renewals and changes of licenses, each written down with what it was told, for license-history.ts. */
import { decodeJwt } from 'jose';
import { expect } from 'vitest';
import { toLatchkeyError } from '#src/base/errors.ts';
import type { AdminClient } from '../../cli/admin-client.ts';
import type { TestKeyServer } from '../../lab/keyserver.ts';
import { type LicensedNode, activateNode } from '../fakes/licensed-node.ts';
import { type RegisteredImage, type SoldProduct, adminClient } from '../fakes/sold-product.ts';
import {
  type HeldState,
  type LicenseOperation,
  findContradiction,
  grantsAfterRevocation,
} from './license-history.ts';

/** Of the changes; the others suspend and reinstate. */
const REVOKED_SHARE = 0.2;

/** What a node learns of its license from an answer. A lease of an older epoch is refused while the license is good. */
const STATE_OF_DENIAL: Record<string, HeldState> = {
  DENIED_LICENSE_REVOKED: 'REVOKED',
  DENIED_LICENSE_SUSPENDED: 'SUSPENDED',
  DENIED_LEASE_INVALID: 'ACTIVE',
};

const VERBS = { SUSPENDED: 'suspend', ACTIVE: 'reinstate', REVOKED: 'revoke' } as const;

const EACH_STATE = [
  ...['change REVOKED', 'change SUSPENDED'],
  ...['observation ACTIVE', 'observation SUSPENDED', 'observation REVOKED'],
];

/** Everything happens in this process, so counting gives the true order of questions and answers. */
let moment = 0;

export interface LoadedLicense {
  readonly id: string;
  readonly nodes: readonly LicensedNode[];
  readonly history: LicenseOperation[];
  /** What the admin asked for last. */
  wanted: HeldState;
  isAnswered: boolean;
}

export class ServerGone extends Error {}

export async function sellLicense(
  server: TestKeyServer,
  sold: SoldProduct,
  nodeCount: number,
): Promise<LoadedLicense> {
  const { license, licenseKey } = await adminClient(server).createLicense({
    ...{ customer: sold.customerId, product: sold.productCode, maxNodes: nodeCount },
  });
  const nodes: LicensedNode[] = [];
  for (let count = 0; count < nodeCount; count += 1) {
    nodes.push(await activateNode(server, licenseKey, { name: `node-${count}` }));
  }
  return { id: license.id, nodes, history: [], wanted: 'ACTIVE', isAnswered: true };
}

/**
 * A start, and a renewal if it was granted.
 * @returns what the start was told
 * @throws ServerGone when no answer came
 */
export async function startAndRenew(
  { history }: Pick<LoadedLicense, 'history'>,
  node: LicensedNode,
  image: RegisteredImage,
): Promise<HeldState> {
  let leaseId: string | undefined;
  const told = await record(history, 'observation', 'ACTIVE', async () => {
    try {
      leaseId = decodeJwt<{ leaseId: string }>((await node.acquire(image)).lease).leaseId;
      return 'ACTIVE';
    } catch (error) {
      const { code } = toLatchkeyError(error);
      if (code.startsWith('NET_')) throw error;
      return stateOfDenial(code);
    }
  });
  const renewed = leaseId;
  if (renewed === undefined) return told;
  await record(history, 'observation', 'ACTIVE', async () => {
    const outcome = (await node.renew([renewed])).results[0]?.outcome;
    return outcome?.$case === 'denial' ? stateOfDenial(outcome.value.code) : 'ACTIVE';
  });
  return told;
}

/**
 * Changes the license; a change whose answer was lost is asked for again.
 * @returns what it is now; undefined when it is revoked, and nothing is left to change
 * @throws ServerGone when no answer came
 */
export async function changeLicense(
  license: LoadedLicense,
  client: AdminClient,
): Promise<HeldState | undefined> {
  if (license.isAnswered) {
    if (license.wanted === 'REVOKED') return undefined;
    const other = license.wanted === 'ACTIVE' ? 'SUSPENDED' : 'ACTIVE';
    license.wanted = Math.random() < REVOKED_SHARE ? 'REVOKED' : other;
    license.isAnswered = false;
  }
  const { wanted } = license;
  const made = await record(license.history, 'change', wanted, async () => {
    await client.changeLicense(license.id, VERBS[wanted]);
    return wanted;
  });
  license.isAnswered = true;
  return made;
}

/** There is an order of each license's history that one license would have gone through. */
export function expectOneOrder(histories: ReadonlyMap<string, readonly LicenseOperation[]>): void {
  for (const [licenseId, history] of histories) {
    expect(grantsAfterRevocation(history), licenseId).toEqual([]);
    expect(findContradiction(history), licenseId).toBeNull();
  }
}

/** Whether the histories have something to order: each change, and each state seen by a node, was answered at least once. */
export function coversEachState(histories: ReadonlyMap<string, readonly LicenseOperation[]>): boolean {
  const answered = [...histories.values()].flat().filter(({ answeredAt }) => answeredAt !== null);
  const kinds = new Set(answered.map(({ kind, state }) => `${kind} ${state}`));
  return EACH_STATE.every((one) => kinds.has(one));
}

/** Records what an operation wrote or saw. @throws ServerGone when no answer came */
async function record(
  history: LicenseOperation[],
  kind: LicenseOperation['kind'],
  asked: HeldState,
  ask: () => Promise<HeldState>,
): Promise<HeldState> {
  const askedAt = ++moment;
  try {
    const state = await ask();
    history.push({ kind, state, askedAt, answeredAt: ++moment });
    return state;
  } catch (error) {
    if (!toLatchkeyError(error).code.startsWith('NET_')) throw error;
    history.push({ kind, state: asked, askedAt, answeredAt: null });
    throw new ServerGone('no answer', { cause: error });
  }
}

function stateOfDenial(code: string): HeldState {
  const state = STATE_OF_DENIAL[code];
  if (state === undefined) throw new Error(`an answer that was not to be expected: ${code}`);
  return state;
}
