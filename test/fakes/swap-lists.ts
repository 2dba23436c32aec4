/** /proc/swaps as the kernel writes it (proc(5)). */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

const HEADER = 'Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n';
const PARTITION = '/dev/sda2                               partition\t1048572\t\t0\t\t-2\n';
const FILE = '/swap\\040file                            file\t\t524284\t\t2060\t\t-3\n';

export const SWAP_LISTS = {
  off: HEADER,
  partition: `${HEADER}${PARTITION}`,
  file: `${HEADER}${FILE}`,
  both: `${HEADER}${PARTITION}${FILE}`,
} as const;

/** The path of such a list in a directory of the test. */
export function swapList(directory: string, list: keyof typeof SWAP_LISTS): string {
  const path = join(directory, `swaps-${list}`);
  writeFileSync(path, SWAP_LISTS[list]);
  return path;
}
