/** An inspected image as a tree for people. What strangers wrote is escaped before it is styled. */
import { leakText } from '#src/image/config-lint.ts';
import type {
  ArtifactInspection,
  BlobInspection,
  ImageInspection,
  PlatformInspection,
} from '#src/image/inspect.ts';
import type { LayerRecipient } from '#src/image/layer-recipients.ts';
import type { StatementInspection } from '#src/image/statement-inspection.ts';
import type { TextSink } from './context.ts';
import { escapeLine, formatBytes, styled } from './output.ts';
import { type TreeNode, formatTree } from './tree.ts';

/** Of one line of history or environment; the rest is in the JSON. */
const MAX_LINE_CHARACTERS = 120;

/** The whole image. */
export function inspectionText(inspection: ImageInspection, sink: TextSink): string {
  const { location, digest, mediaType, annotations, platforms, artifacts, statements, leaks } = inspection;
  return formatTree({
    text: styled(sink, 'bold', line(location)),
    children: [
      { text: `${digest}  ${line(mediaType)}` },
      ...pairs('annotations', annotations),
      ...platforms.map((platform) => platformNode(platform, sink)),
      ...artifacts.map((artifact) => artifactNode(artifact, sink)),
      ...statements.flatMap((statement) =>
        branch('release statement, unchecked (latchkey verify checks it)', statementLines(statement)),
      ),
      ...branch(
        styled(sink, 'red', 'looks like a secret, readable by anybody'),
        leaks.map((leak) => leakText(leak)),
      ),
    ],
  });
}

function statementLines({ keyIds, productCode, alterations, problem }: StatementInspection): string[] {
  if (problem !== undefined) return [`not readable: ${problem}`];
  const signed = keyIds.map((keyId) => `signed by ${keyId}`);
  const found = alterations.map((text) => `does not fit: ${text}`);
  return [
    ...(productCode === undefined ? [] : [`product ${productCode}`]),
    ...(signed.length === 0 ? ['not signed'] : signed),
    ...(found.length === 0 ? ['fits this image'] : found),
  ];
}

function platformNode(inspection: PlatformInspection, sink: TextSink): TreeNode {
  const { platform, digest, layers, annotations, visible } = inspection;
  const encrypted = layers.filter((layer) => layer.isEncrypted);
  const total = formatBytes(layers.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0));
  const part = formatBytes(encrypted.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0));
  const diffIds = layers.flatMap(({ diffId, position }) =>
    diffId === undefined ? [] : [`${position}  ${diffId}`],
  );
  return {
    text: `${styled(sink, 'bold', line(platform))}  ${digest}`,
    children: [
      {
        text: `layers: ${encrypted.length} of ${layers.length} encrypted, ${part} of ${total}`,
        children: blobNodes(layers, sink),
      },
      {
        text: 'visible to anybody, encrypted or not',
        children: [
          ...branch('env', visible.env),
          ...branch('entrypoint', wordsLine(visible.entrypoint)),
          ...branch('cmd', wordsLine(visible.cmd)),
          ...pairs('labels', visible.labels),
          ...pairs('other fields of the config', visible.other),
          ...pairs('annotations', annotations),
          ...branch(
            'history',
            visible.history.map(({ created_by, comment }) =>
              [created_by, comment].filter(Boolean).join('  '),
            ),
          ),
          ...branch('diff IDs of the layers; whether they are salted cannot be seen', diffIds),
        ],
      },
    ],
  };
}

function artifactNode(artifact: ArtifactInspection, sink: TextSink): TreeNode {
  const { isAttestation, isAttached, contents, digest, aboutPlatform, documents } = artifact;
  const about = aboutPlatform === undefined ? '' : ` of ${aboutPlatform}`;
  const title = `${isAttestation ? 'attestation' : 'artifact'}: ${contents.join(', ')}${about}${isAttached ? ' (attached)' : ''}`;
  return { text: `${styled(sink, 'bold', line(title))}  ${digest}`, children: blobNodes(documents, sink) };
}

function blobNodes(blobs: readonly BlobInspection[], sink: TextSink): TreeNode[] {
  const sizes = blobs.map(({ sizeBytes }) => formatBytes(sizeBytes));
  const width = Math.max(0, ...sizes.map((size) => size.length));
  return blobs.map((blob, at) => {
    const state = blob.isEncrypted ? styled(sink, 'green', 'encrypted') : styled(sink, 'yellow', 'plain    ');
    const size = (sizes[at] ?? '').padStart(width);
    return {
      text: `${blob.position}  ${size}  ${state}  ${blob.digest}  ${line(blob.mediaType)}`,
      children: [
        ...readersOf(blob).map((text) => ({ text: line(text) })),
        ...pairs('annotations', blob.annotations),
      ],
    };
  });
}

function readersOf({ isEncrypted, problem, recipients }: BlobInspection): string[] {
  if (!isEncrypted) return [];
  if (problem !== undefined) return [`for nobody: ${problem}`];
  return recipients.map((recipient) => `for ${recipientText(recipient)}`);
}

function recipientText({
  scheme,
  imageKeyId,
  organizationId,
  contact,
  keys,
  keyIds,
}: LayerRecipient): string {
  if (imageKeyId !== undefined) {
    const ask = contact === undefined ? '' : `, contact ${contact}`;
    return `licenses of ${organizationId ?? '?'}, image key ${imageKeyId}${ask}`;
  }
  const count = keys === undefined || keys === 1 ? '' : ` (${keys} keys)`;
  const names = keyIds === undefined || keyIds.length === 0 ? '' : `: ${keyIds.join('; ')}`;
  return `${scheme}${count}${names}`;
}

function wordsLine(words: readonly string[]): string[] {
  return words.length === 0 ? [] : [words.join(' ')];
}

function pairs(title: string, values: Readonly<Record<string, string>>): TreeNode[] {
  return branch(
    title,
    Object.entries(values).map(([name, value]) => `${name}=${value}`),
  );
}

/** A node with lines below it; none without lines. */
function branch(title: string, lines: readonly string[]): TreeNode[] {
  return lines.length === 0 ? [] : [{ text: title, children: lines.map((text) => ({ text: line(text) })) }];
}

/** Images are written by strangers; what they say must not reach the terminal as control sequences. */
function line(text: string): string {
  const cut = text.length > MAX_LINE_CHARACTERS ? `${text.slice(0, MAX_LINE_CHARACTERS)}...` : text;
  return escapeLine(cut);
}
