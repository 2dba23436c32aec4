/** What the statements attached to an image claim. Without a key nobody can say whether they are true. */
import { toLatchkeyError } from '#src/base/errors.ts';
import { parseDsseEnvelope } from '#src/crypto/dsse.ts';
import type { TransferOptions } from '#src/store/blob-store.ts';
import { describeGraph } from './describe-image.ts';
import type { ImageGraph } from './image-graph.ts';
import { releaseAlterations } from './statement-match.ts';
import { readAttachedStatements } from './statement-referrer.ts';
import { readStatement } from './statement.ts';

export interface StatementInspection {
  /** Thumbprints of the keys that are said to have signed it. */
  readonly keyIds: readonly string[];
  readonly productCode?: string | undefined;
  readonly imageKeyId?: string | undefined;
  /** How the image differs from what the statement tells; empty when it does not. */
  readonly alterations: readonly string[];
  /** Why it cannot be read. */
  readonly problem?: string | undefined;
}

/**
 * Describes the statements attached to an image, unchecked.
 * @throws LatchkeyError what the source raises
 */
export async function inspectStatements(
  graph: ImageGraph,
  options: TransferOptions = {},
): Promise<StatementInspection[]> {
  const envelopes = await readAttachedStatements(graph.source, graph.root.descriptor.digest, options);
  return envelopes.map((envelope) => inspectStatement(graph, envelope));
}

function inspectStatement(graph: ImageGraph, envelope: Uint8Array): StatementInspection {
  try {
    const { signatures } = parseDsseEnvelope(envelope);
    const statement = readStatement(envelope);
    return {
      keyIds: signatures.map(({ keyId }) => keyId ?? 'a key without id'),
      productCode: statement.productCode,
      imageKeyId: statement.imageKeyId,
      alterations: releaseAlterations(statement, describeGraph(graph)).map(({ text }) => text),
    };
  } catch (error) {
    return { keyIds: [], alterations: [], problem: toLatchkeyError(error).message };
  }
}
