/** What has to hold of a node whatever was killed when: nothing secret on a disk, nothing half done, nothing left. */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { lstat, readFile, readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { expect } from 'vitest';
import { filesContaining } from '../../lab/site.ts';
import { type GatedSite, SECRET } from '../e2e/gated-site.ts';
import { processesOf } from '../fakes/processes.ts';
import { mountsBelow } from './fragile-node.ts';

interface Row {
  readonly id: number;
  readonly key: string;
  readonly kind: string;
  readonly store: 'disk' | 'memory';
  readonly layer: string | null;
}

export class NodeInvariants {
  readonly #gated: GatedSite;
  readonly #whole = new Map<string, string>();

  constructor(gated: GatedSite) {
    this.#gated = gated;
  }

  /** After each recovery. */
  async check(): Promise<void> {
    const { site, agent } = this.#gated;
    expect((await agent.status()).nodeId).not.toBe('');
    expect(await filesContaining([site.directory], SECRET)).toEqual([]);
    for (const row of this.#rows()) await this.#checkRow(row);
  }

  /** After a garbage collection: containerd and the agent know the same snapshots, and each has one directory. */
  async checkAgreement(): Promise<void> {
    // What containerd has collected it removes a moment later.
    await eventually('containerd and the agent know the same snapshots', async () => {
      const ours = this.#rows().map(({ key }) => key.split('/').slice(2).join('/'));
      return { isSo: equal(ours, await this.#listed()), seen: { ours, theirs: await this.#listed() } };
    });
    await eventually('each directory is of a snapshot', async () => {
      const ids = new Set(this.#rows().map(({ id }) => String(id)));
      const names = await this.#directories();
      return { isSo: names.every((name) => ids.has(name)), seen: { names, ids: [...ids] } };
    });
  }

  /** After everything was removed. */
  async checkEmpty(): Promise<void> {
    const { site } = this.#gated;
    const { paths } = site.agent;
    await eventually('the journal is empty', () => {
      const rows = this.#rows();
      return Promise.resolve({ isSo: rows.length === 0, seen: rows });
    });
    await eventually('no directory is left', async () => {
      const names = await this.#directories();
      return { isSo: names.length === 0, seen: names };
    });
    await eventually('no stream processor is left', async () => {
      const processes = processesOf(paths.processorProgram);
      return { isSo: processes.length === 0, seen: processes };
    });
    await eventually('nothing but the plaintext store is mounted', async () => {
      const mounts = await mountsBelow(site.directory);
      return { isSo: equal(mounts, [paths.memoryDirectory]), seen: mounts };
    });
  }

  /** Names of the snapshots that containerd has: fields are in columns, and a name may have a space in it. */
  async #listed(): Promise<string[]> {
    const { output } = await this.#gated.ctr('snapshots', '--snapshotter', 'latchkey', 'list');
    const [heading = '', ...lines] = output.split('\n');
    const width = heading.indexOf('PARENT');
    return lines.filter((line) => line !== '').map((line) => line.slice(0, width).trim());
  }

  async #directories(): Promise<string[]> {
    const { paths } = this.#gated.site.agent;
    const names = await Promise.all([readdir(paths.diskDirectory), readdir(paths.memoryDirectory)]);
    return names.flat();
  }

  #rows(): Row[] {
    const database = new DatabaseSync(this.#gated.site.agent.paths.journalFile, { readOnly: true });
    try {
      return database
        .prepare('SELECT id, key, kind, store, layer FROM snapshot ORDER BY id')
        .all() as unknown as Row[];
    } finally {
      database.close();
    }
  }

  /** A committed snapshot is whole, or can be made again. */
  async #checkRow({ id, key, kind, store, layer }: Row): Promise<void> {
    if (kind !== 'committed') return;
    const { paths } = this.#gated.site.agent;
    const base = join(store === 'disk' ? paths.diskDirectory : paths.memoryDirectory, String(id));
    const isWhole = store === 'disk' || existsSync(join(base, 'ready'));
    if (!isWhole) {
      expect(layer, `${key} can be made again`).not.toBeNull();
      return;
    }
    const chainId = key.split('/').at(-1) ?? '';
    const tree = await treeHash(join(base, 'fs'));
    if (!this.#whole.has(chainId)) this.#whole.set(chainId, tree);
    expect(tree, `${key} is whole`).toBe(this.#whole.get(chainId));
  }
}

/** Longer than any of this takes on a busy machine; what is still wrong then is told. */
const SETTLE_MS = 60_000;

async function eventually(
  claim: string,
  look: () => Promise<{ readonly isSo: boolean; readonly seen: unknown }>,
): Promise<void> {
  const deadline = Date.now() + SETTLE_MS;
  for (;;) {
    const { isSo, seen } = await look();
    if (isSo) return;
    if (Date.now() > deadline) throw new Error(`not so: ${claim}; seen ${JSON.stringify(seen)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function equal(left: readonly string[], right: readonly string[]): boolean {
  return JSON.stringify([...left].sort()) === JSON.stringify([...right].sort());
}

/** SHA-256 over names, kinds and contents below a directory. */
async function treeHash(directory: string): Promise<string> {
  const hash = createHash('sha256');
  const walk = async (path: string): Promise<void> => {
    for (const name of (await readdir(path)).sort()) {
      const entry = join(path, name);
      const status = await lstat(entry);
      hash.update(`${entry.slice(directory.length)} ${status.mode} ${status.uid}\n`);
      if (status.isDirectory()) await walk(entry);
      else if (status.isSymbolicLink()) hash.update(await readlink(entry));
      else hash.update(await readFile(entry));
    }
  };
  await walk(directory);
  return hash.digest('hex');
}
