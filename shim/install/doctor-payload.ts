/** Whether CRI tells stream processors which layer they work on. Latchkey does not need it; other decoders do. */
import { CRI_IMAGES_V3, CRI_V2, parseContainerdVersion } from './containerd-config.ts';
import { hasCri } from './containerd-effective.ts';
import { type Finding, fault } from './finding.ts';
import { type TomlTable, tableAt } from './toml-change.ts';

/** What the setting for downloads at once is when nobody has set it. */
const DEFAULT_DOWNLOADS = 3;

/** At most one finding, with the reason; none where CRI sends its payload, or is off. */
export function payloadFindings(version: string, dump: TomlTable): Finding[] {
  const reason = hasCri(dump) ? whyNotSent(version, dump) : undefined;
  if (reason === undefined) return [];
  const detail = `CRI of containerd ${version} does not tell stream processors which layer they work on: ${reason}`;
  return [
    fault('payload-not-sent', 'info', `${detail}; Latchkey knows it by its first bytes, other decoders fail`),
  ];
}

/** Everything but the releases was tried on 1.6.20, 1.7.24 and 2.1.9. */
function whyNotSent(version: string, dump: TomlTable): string | undefined {
  const is2 = parseContainerdVersion(version).major >= 2;
  const images = tableAt(dump, ['plugins', is2 ? CRI_IMAGES_V3 : CRI_V2]);
  if (tableAt(images, ['image_decryption'])['key_model'] !== 'node')
    return 'key_model of image_decryption is not "node"';
  if (!is2) return undefined;
  if (!hasCall(version)) return 'its release has the call left out (containerd issue 10005)';
  return pullsLocally(images) ? undefined : 'it pulls through the transfer service';
}

/** 2.0.0 came with the call commented out; 2.1.7 and 2.2.2 are the first of their lines that have it again. */
function hasCall(version: string): boolean {
  const [major = 0, minor = 0, patch = 0] = (/(\d+)\.(\d+)\.(\d+)/.exec(version) ?? []).slice(1).map(Number);
  if (major > 2 || minor > 2) return true;
  return (minor === 2 && patch >= 2) || (minor === 1 && patch >= 7);
}

/** containerd pulls locally when it is told to, and silently for every setting that the transfer service does not know. */
function pullsLocally(images: TomlTable): boolean {
  const { max_concurrent_downloads: downloads = DEFAULT_DOWNLOADS } = images;
  const registry = tableAt(images, ['registry']);
  return (
    images['use_local_image_pull'] === true ||
    images['disable_snapshot_annotations'] === false ||
    images['discard_unpacked_layers'] === true ||
    images['image_pull_with_sync_fs'] === true ||
    downloads !== DEFAULT_DOWNLOADS ||
    ['mirrors', 'configs', 'auths'].some((name) => Object.keys(tableAt(registry, [name])).length > 0)
  );
}
