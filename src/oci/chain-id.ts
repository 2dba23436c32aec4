/** Chain IDs (OCI image spec, config.md "Layer ChainID"): the names under which snapshots of stacked layers are kept. */
import { digestOf, type Digest } from './digest.ts';

/** The chain ID of each layer, from the base up; as many as there are diff IDs. */
export function chainIds(diffIds: readonly Digest[]): Digest[] {
  const chain: Digest[] = [];
  for (const diffId of diffIds) {
    const parent = chain.at(-1);
    chain.push(parent === undefined ? diffId : digestOf(`${parent} ${diffId}`));
  }
  return chain;
}
