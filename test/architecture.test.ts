/** The architecture as rules that fail: who may import whom, how long a file may be, what the processor loads. */
import { readFileSync, globSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { describe, expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '..');
const MAX_FILE_LINES = 300;

/** Lowest first: a file imports only from its own folder or from those before it. */
const LAYERS = [
  'src/base',
  'src/oci',
  'src/crypto',
  'src/keywrap',
  'src/store',
  'src/registry',
  'src/image',
  'src/licensing',
  'src/wire',
] as const;

/** Programs of their own: they share src and nothing else. */
const PROGRAMS = ['cli', 'keyserver', 'shim'] as const;

/** What each part of the shim may import of the others. */
const SHIM_PARTS: Readonly<Record<string, readonly string[]>> = {
  'shim/processor': [],
  'shim/containerd': [],
  'shim/snapshotter': [],
  'shim/agent': ['shim/processor', 'shim/containerd', 'shim/snapshotter'],
  'shim/install': ['shim/agent', 'shim/snapshotter'],
};

const FORBIDDEN_NAMES = /(?:^|\/)(?:utils?|helpers?|common|misc)(?:\/|\.)/;

/** They take long to load, and most commands never need them. */
const LARGE_PACKAGES = ['openpgp', 'node-forge', 'graphene-pk11', '@grpc/grpc-js'];
/** Of those, what is loaded with the first key that needs it and never before. */
const KEY_PACKAGES = ['openpgp', 'graphene-pk11'];

interface SourceFile {
  readonly path: string;
  readonly text: string;
  /** Imported paths from the root for our own files, package names for others. */
  readonly imports: readonly string[];
  /** Those of them that are loaded with the file itself: neither types nor on demand. */
  readonly loads: readonly string[];
}

const ANY_IMPORT = /(?:\bfrom\s+|\bimport\s+|\bimport\()\s*'([^']+)'/g;
const LOADING_IMPORT = /^(?:import|export)\s+(?!type\s)(?:[^'";]*?\sfrom\s+)?'([^']+)'/gm;

function sourceFiles(): SourceFile[] {
  const patterns = ['src', 'cli', 'keyserver', 'shim', 'lab', 'deploy', 'test', 'bench', 'scripts'].map(
    (name) => `${name}/**/*.{ts,js}`,
  );
  return globSync(patterns, { cwd: ROOT })
    .filter((path) => !path.startsWith('src/wire/generated/'))
    .map((path) => {
      const text = readFileSync(join(ROOT, path), 'utf8');
      return {
        path,
        text,
        imports: targetsOf(path, text, ANY_IMPORT),
        loads: targetsOf(path, text, LOADING_IMPORT),
      };
    });
}

function targetsOf(path: string, text: string, pattern: RegExp): string[] {
  return [...text.matchAll(pattern)].map(([, specifier = '']) => {
    if (specifier.startsWith('#src/')) return specifier.slice(1);
    if (!specifier.startsWith('.')) return specifier;
    return relative(ROOT, join(ROOT, dirname(path), specifier));
  });
}

const files = sourceFiles();

function layerOf(path: string): number {
  return LAYERS.findIndex((layer) => path.startsWith(`${layer}/`));
}

describe('imports', () => {
  test('go one way through src', () => {
    const wrong = files
      .filter(({ path }) => path.startsWith('src/'))
      .flatMap(({ path, imports }) =>
        imports
          .filter((target) => /^(?:src|cli|keyserver|shim|lab|test)\//.test(target))
          .filter((target) => layerOf(target) === -1 || layerOf(target) > layerOf(path))
          .map((target) => `${path} -> ${target}`),
      );
    expect(wrong).toEqual([]);
  });

  test('every file of src belongs to a layer', () => {
    const strays = files.filter(({ path }) => path.startsWith('src/') && layerOf(path) === -1);
    expect(strays.map(({ path }) => path)).toEqual([]);
  });

  test.each(PROGRAMS)('%s shares nothing but src with the other programs', (program) => {
    const foreign = new RegExp(
      `^(?:${PROGRAMS.filter((other) => other !== program).join('|')}|lab|test|bench|scripts)/`,
    );
    const wrong = files
      .filter(({ path }) => path.startsWith(`${program}/`))
      .flatMap(({ path, imports }) =>
        imports.filter((target) => foreign.test(target)).map((target) => `${path} -> ${target}`),
      );
    expect(wrong).toEqual([]);
  });

  test('go one way through the shim', () => {
    const wrong = Object.entries(SHIM_PARTS).flatMap(([part, allowed]) =>
      files
        .filter(({ path }) => path.startsWith(`${part}/`))
        .flatMap(({ path, imports }) =>
          imports
            .filter((target) => target.startsWith('shim/') && !target.startsWith(`${part}/`))
            .filter((target) => !allowed.some((other) => target.startsWith(`${other}/`)))
            .map((target) => `${path} -> ${target}`),
        ),
    );
    expect(wrong).toEqual([]);
  });

  test('the processor loads nothing but its error type and, where Node runs it, a socket', () => {
    const allowed = /^(?:src\/base\/errors\.ts|shim\/processor\/.*|node:(?:net|fs|child_process))$/;
    const wrong = files
      .filter(({ path }) => path.startsWith('shim/processor/'))
      .flatMap(({ path, imports }) =>
        imports.filter((target) => !allowed.test(target)).map((target) => `${path} -> ${target}`),
      );
    expect(wrong).toEqual([]);
  });

  test('what decrypts a layer loads no network, database or user interface', () => {
    const allowed =
      /^(?:node:(?:crypto|fs|worker_threads|buffer|path|util)|src\/(?:base|oci|crypto)\/.*|shim\/agent\/(?:decrypt-job|layer-progress|layer-stream)\.ts)$/;
    const seen = new Set<string>();
    const queue = ['shim/agent/decrypt-worker.ts'];
    const wrong: string[] = [];
    for (let path = queue.pop(); path !== undefined; path = queue.pop()) {
      if (seen.has(path)) continue;
      seen.add(path);
      for (const target of files.find((file) => file.path === path)?.imports ?? []) {
        // The parser of layer options checks JSON by hand; zod stays out of the hot path.
        if (!allowed.test(target)) wrong.push(`${path} -> ${target}`);
        else if (!target.startsWith('node:')) queue.push(target);
      }
    }
    expect(seen.size).toBeGreaterThan(4);
    expect(wrong).toEqual([]);
  });

  test('starting a command, whichever it is, loads no large package', () => {
    const isEntry = (path: string) => path === 'cli/main.ts' || path.startsWith('cli/commands/');
    const queue = files.filter(({ path }) => isEntry(path));
    const seen = new Set(queue);
    const wrong: string[] = [];
    for (let file = queue.pop(); file !== undefined; file = queue.pop()) {
      for (const target of file.loads) {
        if (LARGE_PACKAGES.includes(target)) wrong.push(`${file.path} -> ${target}`);
        const next = files.find(({ path }) => path === target);
        if (next === undefined || seen.has(next)) continue;
        seen.add(next);
        queue.push(next);
      }
    }
    expect([...seen].map(({ path }) => path)).toContain('src/base/errors.ts');
    expect(wrong).toEqual([]);
  });

  test('the packages for PGP keys and tokens are loaded on demand only', () => {
    const wrong = files
      .filter(({ path }) => /^(?:src|cli|keyserver|shim)\//.test(path))
      .filter(({ loads }) => loads.some((target) => KEY_PACKAGES.includes(target)));
    expect(wrong.map(({ path }) => path)).toEqual([]);
  });
});

describe('files', () => {
  test(`have at most ${MAX_FILE_LINES} lines`, () => {
    const long = files.filter(({ text }) => text.split('\n').length - 1 > MAX_FILE_LINES);
    expect(long.map(({ path }) => path)).toEqual([]);
  });

  test('are named by what they are', () => {
    expect(files.filter(({ path }) => FORBIDDEN_NAMES.test(path)).map(({ path }) => path)).toEqual([]);
  });

  test('have no default export outside of tool configuration', () => {
    expect(files.filter(({ text }) => /^export default /m.test(text)).map(({ path }) => path)).toEqual([]);
  });
});

describe('package', () => {
  test('pins every dependency exactly', () => {
    const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as Record<
      string,
      Record<string, string>
    >;
    const ranges = ['dependencies', 'devDependencies', 'optionalDependencies'].flatMap((kind) =>
      Object.entries(manifest[kind] ?? {}).filter(
        ([, version]) => !/^\d+\.\d+\.\d+(?:-[\w.]+)?$/.test(version),
      ),
    );
    expect(ranges).toEqual([]);
  });
});
