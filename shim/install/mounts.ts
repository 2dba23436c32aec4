/** The kernel's list of mounts (proc_mounts(5)). Pure. */

/** Mount point -> its options; of several at one point the last, which is the one that is seen. */
export function mountPoints(mounts: string): Map<string, readonly string[]> {
  const points = new Map<string, readonly string[]>();
  for (const line of mounts.split('\n')) {
    const [, point, , options = ''] = line.split(' ');
    if (point !== undefined) points.set(unescapeMount(point), options.split(','));
  }
  return points;
}

/** The options of the filesystem that a path is on. */
export function optionsOf(points: ReadonlyMap<string, readonly string[]>, path: string): readonly string[] {
  const [longest] = [...points.keys()]
    .filter((point) => path === point || path.startsWith(point === '/' ? '/' : `${point}/`))
    .sort((left, right) => right.length - left.length);
  return points.get(longest ?? '') ?? [];
}

/** Spaces and the like are written in octal. */
function unescapeMount(point: string): string {
  return point.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8)));
}
