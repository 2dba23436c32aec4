/** Nodes whose key server cannot be reached, unless it is said that it can, and what is carried to them. */
import { join } from 'node:path';
import { type Clock, systemClock } from '#src/base/clock.ts';
import type { LatchkeyError } from '#src/base/errors.ts';
import type { OfflineBundleFile } from '#src/licensing/offline-bundle.ts';
import { parseOfflineRequestFile } from '#src/licensing/offline-request.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { AgentNode } from './agent-node.ts';
import { type SoldProduct, createSoldProduct } from './sold-product.ts';

export const DAY_MS = 86_400_000;
/** Nobody listens there. */
export const NOWHERE = '127.0.0.1:1';

export interface OfflineNodeOptions {
  readonly isOnline?: boolean;
  readonly clock?: Clock;
}

export class OfflineSite {
  readonly server: TestKeyServer;
  readonly sold: SoldProduct;
  readonly #directory: () => string;
  readonly #nodes: AgentNode[] = [];

  private constructor(server: TestKeyServer, sold: SoldProduct, directory: () => string) {
    this.server = server;
    this.sold = sold;
    this.#directory = directory;
  }

  /** @param directory of the test that runs */
  static async open(directory: () => string): Promise<OfflineSite> {
    const server = await startKeyServer();
    return new OfflineSite(server, await createSoldProduct(server), directory);
  }

  async start(
    name: string,
    { isOnline = false, clock = systemClock }: OfflineNodeOptions = {},
  ): Promise<AgentNode> {
    const { server } = this;
    const away = { nodeAddress: NOWHERE, enrollAddress: NOWHERE, authorityPem: server.authorityPem };
    const node = await AgentNode.start({
      directory: join(this.#directory(), name),
      keyServer: isOnline ? server : away,
      clock,
    });
    this.#nodes.push(node);
    return node;
  }

  async restart(node: AgentNode, name: string, options?: OfflineNodeOptions): Promise<AgentNode> {
    node.stop();
    return this.start(name, options);
  }

  async checkOut(
    licenseId: string,
    term: number | { readonly lifeMs: number; readonly maxStarts: number },
    ...from: AgentNode[]
  ): Promise<OfflineBundleFile> {
    const requests: string[] = [];
    for (const { agent } of from) {
      const file = Buffer.from(JSON.stringify(await agent.offline.requestOffline([])));
      requests.push(...parseOfflineRequestFile(file, 'request').requests);
    }
    const terms = typeof term === 'number' ? { lifeMs: term } : term;
    return (await this.sold.client.checkOut(licenseId, { requests, ...terms })).file;
  }

  /** A node that was never activated, with a bundle. */
  async startCarried(name: string, options: OfflineNodeOptions & { readonly lifeMs?: number } = {}) {
    const node = await this.start(name, options);
    const { license } = await this.sold.sell();
    const file = await this.checkOut(license.id, options.lifeMs ?? 30 * DAY_MS, node);
    const bundle = await node.agent.offline.importOffline(bytesOf(file));
    return { node, license, file, bundle };
  }

  stopNodes(): void {
    for (const node of this.#nodes.splice(0)) node.stop();
  }

  async close(): Promise<void> {
    await this.server.dispose();
  }
}

export const bytesOf = (file: OfflineBundleFile): Buffer => Buffer.from(JSON.stringify(file));

/** What became of it: `OK`, or the code of the error. */
export function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'OK',
    (error: unknown) => (error as LatchkeyError).code,
  );
}
