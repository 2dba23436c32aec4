/** How a plan of encryption is shown: by `--dry-run`, and in the result. */
import { leakText } from '#src/image/config-lint.ts';
import type { LayerPlan } from '#src/image/layer-plan.ts';
import { type EncryptionPlan, planTotals } from '#src/image/plan.ts';
import { formatBytes, formatFields, formatTable } from './output.ts';

/** The plan for `--json`. */
export function planJson(plan: EncryptionPlan, notes: readonly string[]) {
  return {
    platforms: plan.platforms.map(({ platform, layers }) => ({
      platform,
      layers: layers.map((layer) => ({
        position: layer.position,
        mediaType: layer.descriptor.mediaType,
        digest: layer.descriptor.digest,
        sizeBytes: layer.descriptor.size,
        encrypted: layer.isEncrypted,
        reuse: layer.isEncrypted ? layer.reuse?.descriptor.digest : undefined,
        reason: layer.reason,
      })),
    })),
    artifacts: plan.artifacts.map(({ node, isAttestation, title, action }) => ({
      digest: node.blob.descriptor.digest,
      attestation: isAttestation,
      contents: title,
      action,
    })),
    leaks: plan.leaks,
    totals: planTotals(plan),
    notes,
  };
}

function layerAction(layer: LayerPlan): string {
  if (!layer.isEncrypted) return 'keep plain';
  return layer.reuse === undefined ? 'encrypt' : 'reuse';
}

/** The plan as tables. */
export function planText(plan: EncryptionPlan): string {
  const platforms = plan.platforms.map(({ platform, layers }) => {
    const rows = layers.map((layer) => [
      String(layer.position),
      formatBytes(layer.descriptor.size),
      layerAction(layer),
      layer.reason,
    ]);
    return `${platform}\n${formatTable(['LAYER', 'SIZE', 'PLAN', 'WHY'], rows)}`;
  });
  const artifacts = plan.artifacts.map(({ title, action, isAttestation }) => [
    isAttestation ? 'attestation' : 'artifact',
    action === 'undecided' ? 'needs --attestations' : action,
    title,
  ]);
  const leaks = plan.leaks.map((leak) => [leakText(leak)]);
  const { encryptedBytes, reusedBytes, plainBytes } = planTotals(plan);
  return [
    ...platforms,
    ...(artifacts.length === 0 ? [] : [formatTable(['BESIDE', 'PLAN', 'CONTENTS'], artifacts)]),
    ...(leaks.length === 0 ? [] : [formatTable(['LOOKS LIKE A SECRET, STAYS READABLE'], leaks)]),
    formatFields([
      ['encrypted', formatBytes(encryptedBytes)],
      ['reused', reusedBytes === 0 ? undefined : formatBytes(reusedBytes)],
      ['plain', formatBytes(plainBytes)],
    ]),
  ].join('\n');
}

/** What a run did, in a few lines. */
export function summaryText(
  summary: {
    readonly destination: string;
    readonly digest: string;
    readonly imageKeyId?: string | undefined;
    readonly resumed: boolean;
  },
  plan: EncryptionPlan,
): string {
  const counts = plan.platforms.map(({ platform, layers }) => {
    const encrypted = layers.filter((layer) => layer.isEncrypted).length;
    const reused = layers.filter((layer) => layer.isEncrypted && layer.reuse !== undefined).length;
    const note = reused === 0 ? '' : ` (${reused} reused)`;
    return `${encrypted} of ${layers.length} layers for ${platform}${note}`;
  });
  return formatFields([
    ['encrypted', counts.join(', ')],
    ['image', summary.destination],
    ['digest', summary.digest],
    ['image key', summary.imageKeyId],
    ['resumed', summary.resumed ? 'yes: ciphertext of the run before was used' : undefined],
  ]);
}
