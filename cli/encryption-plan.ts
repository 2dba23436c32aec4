/** How a plan of encryption is shown: by `--dry-run`, and in the result. */
import type { EncryptionPlan } from '#src/image/plan.ts';
import { formatBytes, formatTable } from './output.ts';

/** The plan for `--json`. */
export function planJson(plan: EncryptionPlan) {
  return plan.platforms.map(({ platform, layers }) => ({
    platform,
    layers: layers.map(({ position, descriptor, isEncrypted, reason }) => ({
      position,
      digest: descriptor.digest,
      sizeBytes: descriptor.size,
      encrypted: isEncrypted,
      reason,
    })),
  }));
}

/** The plan as a table for each platform. */
export function planText(plan: EncryptionPlan): string {
  return plan.platforms
    .map(({ platform, layers }) => {
      const rows = layers.map(({ position, descriptor, isEncrypted, reason }) => [
        String(position),
        formatBytes(descriptor.size),
        isEncrypted ? 'encrypt' : 'keep plain',
        reason,
      ]);
      return `${platform}\n${formatTable(['LAYER', 'SIZE', 'PLAN', 'WHY'], rows)}`;
    })
    .join('\n');
}
