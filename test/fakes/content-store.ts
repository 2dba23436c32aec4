/** containerd's content store in this process: blobs per namespace behind the real gRPC service. */
import { status as grpcStatus } from '@grpc/grpc-js';
import { type Digest, digestOf } from '#src/oci/digest.ts';
import {
  type ContentServer,
  ContentService,
  type Info,
  type ReadContentResponse,
} from '#src/wire/generated/containerd/content.ts';
import { type NamespacesServer, NamespacesService } from '#src/wire/generated/containerd/namespaces.ts';
import { ContainerdConnection } from '../../shim/containerd/connection.ts';
import { type SocketServer, serveOnSocket } from './grpc-server.ts';

/** containerd sends a blob in pieces; small here, so that readers meet several. */
const READ_CHUNK_BYTES = 3000;

/** What containerd writes on a manifest once it knows the children. */
export const MANIFEST_LABELS = { 'containerd.io/gc.ref.content.config': 'sha256:…' } as const;

interface StoredContent {
  readonly bytes: Uint8Array;
  readonly labels: Readonly<Record<string, string>>;
}

export class FakeContentStore {
  readonly connection: ContainerdConnection;
  /** Digests in the order in which they were read. */
  readonly reads: readonly string[];
  readonly #server: SocketServer;
  readonly #namespaces: Map<string, Map<string, StoredContent>>;

  private constructor(
    server: SocketServer,
    namespaces: Map<string, Map<string, StoredContent>>,
    reads: readonly string[],
  ) {
    this.reads = reads;
    this.#server = server;
    this.#namespaces = namespaces;
    this.connection = new ContainerdConnection(server.socketPath);
  }

  static async start(socketPath: string): Promise<FakeContentStore> {
    const namespaces = new Map<string, Map<string, StoredContent>>();
    const reads: string[] = [];
    const server = await serveOnSocket(socketPath, [
      [ContentService, contentService(namespaces, reads)],
      [NamespacesService, namespacesService(namespaces)],
    ]);
    return new FakeContentStore(server, namespaces, reads);
  }

  add(namespace: string, bytes: Uint8Array, labels: Readonly<Record<string, string>> = {}): Digest {
    const digest = digestOf(bytes);
    this.put(namespace, digest, bytes, labels);
    return digest;
  }

  /** Stores bytes under a digest that need not be theirs. */
  put(
    namespace: string,
    digest: Digest,
    bytes: Uint8Array,
    labels: Readonly<Record<string, string>> = {},
  ): void {
    const blobs = this.#namespaces.get(namespace) ?? new Map<string, StoredContent>();
    blobs.set(digest, { bytes, labels });
    this.#namespaces.set(namespace, blobs);
  }

  remove(namespace: string, digest: Digest): void {
    this.#namespaces.get(namespace)?.delete(digest);
  }

  /** containerd goes away; whoever is connected stays so. */
  stop(): void {
    this.#server.close();
  }

  close(): void {
    this.connection.close();
    this.#server.close();
  }
}

function contentService(
  namespaces: ReadonlyMap<string, ReadonlyMap<string, StoredContent>>,
  reads: string[],
): ContentServer {
  const blobsOf = (metadata: { get(key: string): unknown[] }): ReadonlyMap<string, StoredContent> =>
    namespaces.get(String(metadata.get('containerd-namespace')[0])) ?? new Map<string, StoredContent>();
  const notFound = (digest: string) => ({
    code: grpcStatus.NOT_FOUND,
    details: `content ${digest}: not found`,
  });
  return {
    info: (call, callback) => {
      const { digest } = call.request;
      const content = blobsOf(call.metadata).get(digest);
      if (content === undefined) callback(notFound(digest));
      else callback(null, { info: infoOf(digest, content) });
    },
    list: (call) => {
      const manifestsOnly = call.request.filters.length > 0;
      const info = [...blobsOf(call.metadata)]
        .filter(
          ([, { labels }]) => !manifestsOnly || Object.keys(MANIFEST_LABELS).every((key) => key in labels),
        )
        .map(([digest, content]) => infoOf(digest, content));
      call.write({ info });
      call.end();
    },
    read: (call) => {
      const { digest } = call.request;
      const content = blobsOf(call.metadata).get(digest);
      reads.push(digest);
      if (content === undefined) {
        call.emit('error', notFound(digest));
        return;
      }
      for (let offset = 0; offset < content.bytes.length; offset += READ_CHUNK_BYTES) {
        const data = Buffer.from(content.bytes.subarray(offset, offset + READ_CHUNK_BYTES));
        call.write({ offset, data } satisfies ReadContentResponse);
      }
      call.end();
    },
  };
}

function namespacesService(namespaces: ReadonlyMap<string, unknown>): NamespacesServer {
  return {
    list: (_call, callback) => {
      callback(null, { namespaces: [...namespaces.keys()].map((name) => ({ name })) });
    },
  };
}

function infoOf(digest: string, { bytes, labels }: StoredContent): Info {
  return { digest, size: bytes.length, createdAt: undefined, updatedAt: undefined, labels: { ...labels } };
}
