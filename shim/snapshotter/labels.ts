/** Label changes as containerd's field masks describe them (snapshots.proto, UpdateSnapshotRequest). */

type Labels = Readonly<Record<string, string>>;

/**
 * Pure: the labels after a change.
 * @param paths `labels` replaces all, `labels.NAME` sets or (with an empty value) removes one; none replaces all
 */
export function updatedLabels(current: Labels, change: Labels, paths: readonly string[]): Labels {
  const replacesAll = paths.length === 0 || paths.includes('labels');
  const labels = new Map(Object.entries(replacesAll ? change : current));
  for (const path of paths.filter((candidate) => candidate.startsWith('labels.'))) {
    const name = path.slice('labels.'.length);
    const value = change[name] ?? '';
    if (value === '') labels.delete(name);
    else labels.set(name, value);
  }
  return Object.fromEntries(labels);
}
