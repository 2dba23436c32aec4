/** Changes to a TOML document as data, and what they make of a parsed one. */
/** What smol-toml gives for a table. */
export type TomlTable = Record<string, unknown>;
export type TomlValue = string | number | boolean | readonly string[];
export type TomlPath = readonly string[];

export type TomlChange =
  /** One value in a table that others may have a part in. */
  | { readonly kind: 'set'; readonly table: TomlPath; readonly key: string; readonly value: TomlValue }
  /** A table that is wholly ours, in place of one that may be there. */
  | {
      readonly kind: 'own';
      readonly table: TomlPath;
      readonly entries: Readonly<Record<string, TomlValue>>;
      readonly tables?: Readonly<Record<string, Readonly<Record<string, TomlValue>>>>;
    }
  /** One more table in a list of tables, unless it is there. */
  | {
      readonly kind: 'append';
      readonly table: TomlPath;
      readonly entries: Readonly<Record<string, TomlValue>>;
    };

/** The document with the changes; what it is given stays as it is. */
export function changedTable(document: TomlTable, changes: readonly TomlChange[]): TomlTable {
  return changes.reduce((current, change) => {
    switch (change.kind) {
      case 'set':
        return withValue(current, [...change.table, change.key], () => change.value);
      case 'own':
        return withValue(current, change.table, () => ownTable(change));
      case 'append':
        return withValue(current, change.table, (list) => {
          const before: unknown[] = Array.isArray(list) ? list : [];
          const isThere = before.some((entry) => isSameToml(entry, change.entries));
          return isThere ? before : [...before, { ...change.entries }];
        });
    }
  }, document);
}

/** What an `own` change puts there. */
export function ownTable(change: Extract<TomlChange, { kind: 'own' }>): TomlTable {
  return { ...change.entries, ...change.tables };
}

/** What stands at a path; undefined when nothing does. */
export function valueAt(document: unknown, path: TomlPath): unknown {
  return path.reduce<unknown>((current, key) => (isTable(current) ? current[key] : undefined), document);
}

/** The table at a path; empty when there is none. */
export function tableAt(document: unknown, path: TomlPath): TomlTable {
  const value = valueAt(document, path);
  return isTable(value) ? value : {};
}

/** Whether two parts of documents say the same, in whatever order; smol-toml's tables have no prototype, ours have. */
export function isSameToml(left: unknown, right: unknown): boolean {
  if (Array.isArray(left) && Array.isArray(right))
    return left.length === right.length && left.every((entry, index) => isSameToml(entry, right[index]));
  if (isTable(left) && isTable(right)) {
    const keys = Object.keys(left);
    return (
      keys.length === Object.keys(right).length &&
      keys.every((key) => key in right && isSameToml(left[key], right[key]))
    );
  }
  return JSON.stringify(left) === JSON.stringify(right);
}

export function isTable(value: unknown): value is TomlTable {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

function withValue(document: TomlTable, path: TomlPath, change: (before: unknown) => unknown): TomlTable {
  const [key, ...rest] = path;
  if (key === undefined) return document;
  const before = document[key];
  if (rest.length === 0) return { ...document, [key]: change(before) };
  return { ...document, [key]: withValue(isTable(before) ? before : {}, rest, change) };
}
