/** Where stream processors come, with real processors and workers, on a node whose licenses and releases a test scripts. */
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { ExtractionLedger } from '../../shim/agent/extraction-ledger.ts';
import { type ProcessorEndpointParts, serveProcessors } from '../../shim/agent/processor-endpoint.ts';
import { installProcessor } from '../../shim/agent/processor-install.ts';
import { WorkerPool } from '../../shim/agent/worker-pool.ts';
import { FakeContentStore } from './content-store.ts';
import {
  type EncryptedImage,
  encryptedImage,
  encryptedImageStatement,
  layerIdentity,
  storeEncryptedImage,
} from './encrypted-image.ts';
import { keyGrantor } from './key-grantor.ts';
import { LeaseIssuer } from './lease-issuer.ts';
import { manualClock } from './manual-clock.ts';

/** Of all its images. */
export const NAMESPACE = 'k8s.io';
const WORKER = new URL('../../shim/agent/decrypt-worker.ts', import.meta.url);

type Options = Partial<Omit<ProcessorEndpointParts, 'pool' | 'grantor' | 'programPath'>>;

export class ProcessorSite {
  readonly store: FakeContentStore;
  readonly issuer = new LeaseIssuer(manualClock());
  readonly ledger = new ExtractionLedger();
  readonly pool = new WorkerPool((options) => new Worker(WORKER, options));
  #stopServing: () => void = () => undefined;

  private constructor(store: FakeContentStore) {
    this.store = store;
  }

  /** Its processor is `processor` in that directory. */
  static async start(directory: string, options: Options = {}): Promise<ProcessorSite> {
    const site = new ProcessorSite(await FakeContentStore.start(join(directory, 'containerd.sock')));
    const processorSocket = join(directory, 'processor.sock');
    const processorProgram = join(directory, 'processor');
    const { executable } = await installProcessor('auto', { processorProgram, processorSocket });
    const server = await serveProcessors(processorSocket, {
      pool: site.pool,
      grantor: keyGrantor(site.ledger, site.store, site.issuer),
      programPath: executable,
      onLayer: () => undefined,
      ...options,
    });
    site.#stopServing = () => server.close();
    return site;
  }

  /** An image that has been pulled to this node, with a license for it. */
  pulledImage(plaintexts: readonly Buffer[]): EncryptedImage {
    const { issuer, store } = this;
    const image = encryptedImage(plaintexts, { imageKeyId: `key-${issuer.imageKeys.size}` });
    issuer.imageKeys.set(image.imageKeyId, image.imageKey);
    issuer.statements.set(image.manifestDigest, encryptedImageStatement(image));
    storeEncryptedImage(store, NAMESPACE, image);
    return image;
  }

  /** Begins to unpack a layer; gives the token of that. */
  open(image: EncryptedImage, index = 0, token = `extract ${index}`): string {
    this.ledger.open(token, layerIdentity(image, NAMESPACE, index));
    return token;
  }

  async stop(): Promise<void> {
    this.#stopServing();
    await this.pool.close();
    this.store.close();
  }
}
