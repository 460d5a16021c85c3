/**
 * A configuration that remembers where each of its values was written, so that a problem found after merging files and
 * overrides still names the file and the line.
 *
 * @module
 */

/** A value and the place (`configs/tiny.yaml:12`, `--set seed=2`) that gave it. */
export type ConfigTree =
  | { readonly kind: "map"; readonly place: string; readonly entries: Map<string, ConfigTree> }
  | { readonly kind: "list"; readonly place: string; readonly items: ConfigTree[] }
  | { readonly kind: "scalar"; readonly place: string; readonly value: unknown };

/** A step into a configuration: a key of a map or an index of a list. */
export type PathStep = string | number;

/** A map of the configuration. */
type ConfigMap = Extract<ConfigTree, { kind: "map" }>;

/**
 * Lays `over` over `base`. Maps are merged key by key; other values are replaced whole. A map of another `kind` is
 * replaced too: its kind decides which other keys it has. So does a `router` among the maps of a kind. Another `source` takes away the map that is
 * named like the one before.
 *
 * @example
 * ```ts
 * import { mergeTrees, plainValue } from "./tree.ts";
 * const scalar = (value: unknown, place: string) => ({ kind: "scalar", value, place }) as const;
 * const base = { kind: "map", place: "a", entries: new Map([["x", scalar(1, "a:1")]]) } as const;
 * const over = { kind: "map", place: "b", entries: new Map([["y", scalar(2, "b:1")]]) } as const;
 * console.assert(JSON.stringify(plainValue(mergeTrees(base, over))) === '{"x":1,"y":2}');
 * ```
 */
export function mergeTrees(base: ConfigTree, over: ConfigTree): ConfigTree {
  if (base.kind !== "map" || over.kind !== "map") return over;
  const entries = entriesFor(base, over.entries);
  for (const [key, value] of over.entries) {
    const below = entries.get(key);
    entries.set(key, below === undefined ? value : mergeTrees(below, value));
  }
  return { kind: "map", place: over.place, entries };
}

/** Keys whose value decides which other keys a map has, each among the maps that are alike in those before it. */
const CHOICES: readonly string[] = ["kind", "router"];

/** When a key of a map is to be set: those that decide which others there are come before them. */
export function choiceOrder(key: string): number {
  const place = CHOICES.indexOf(key);
  return place < 0 ? CHOICES.length : place;
}

/** Keys that stay when `key` of a map gets another value; all unless it decides which others there are. */
export function keysKept(key: string): readonly string[] | undefined {
  const place = CHOICES.indexOf(key);
  return place < 0 ? undefined : CHOICES.slice(0, place);
}

/** Entries of a map that stay when others are laid over it. */
function entriesFor(
  map: ConfigMap,
  over: ReadonlyMap<string, ConfigTree>,
): Map<string, ConfigTree> {
  for (const key of CHOICES) {
    const [before, after] = [map.entries.get(key), over.get(key)];
    if (!before || !after || plainValue(before) === plainValue(after)) continue;
    return new Map([...map.entries].filter(([other]) => keysKept(key)!.includes(other)));
  }
  const entries = new Map(map.entries);
  const [before, after] = [map.entries.get(SOURCE), over.get(SOURCE)];
  if (before && after && plainValue(before) !== plainValue(after)) {
    entries.delete(String(plainValue(before)));
  }
  return entries;
}

/** Key that names one of several sections beside it: another value takes away the section that the one before named. */
const SOURCE = "source";

/** The tree as plain objects, arrays and scalars. */
export function plainValue(tree: ConfigTree): unknown {
  switch (tree.kind) {
    case "map":
      return Object.fromEntries(
        [...tree.entries].map(([key, value]) => [key, plainValue(value)]),
      );
    case "list":
      return tree.items.map(plainValue);
    case "scalar":
      return tree.value;
  }
}

/** The place of the value at `path`, or of the nearest value that encloses it. */
export function placeOf(tree: ConfigTree, path: readonly PropertyKey[]): string {
  let here = tree;
  for (const step of path) {
    const next: ConfigTree | undefined = here.kind === "map"
      ? here.entries.get(String(step))
      : here.kind === "list"
      ? here.items[Number(step)]
      : undefined;
    if (next === undefined) break;
    here = next;
  }
  return here.place;
}

/** Why {@linkcode setPath} can't set a value. */
export interface SetRefusal {
  /** How much of the path names something that is there. */
  readonly path: readonly string[];
  /** Says what was found there. */
  readonly message: string;
}

/**
 * Puts `value` at `path` and makes missing maps on the way. An index reaches into an existing list. Another `kind`
 * clears the map that it is put into, and another `router` all of it but the kind. Another `source` clears the map that is named like the
 * one before.
 *
 * @returns The new tree, or why the path leads nowhere.
 */
export function setPath(
  tree: ConfigTree,
  path: readonly string[],
  value: ConfigTree,
): ConfigTree | SetRefusal {
  const walk = (
    here: ConfigTree | undefined,
    depth: number,
  ): ConfigTree | SetRefusal => {
    if (depth === path.length) return value;
    const key = path[depth] as string;
    if (here === undefined || (here.kind === "scalar" && here.value === null)) {
      here = { kind: "map", place: value.place, entries: new Map() };
    }
    if (here.kind === "map") {
      const child = walk(here.entries.get(key), depth + 1);
      if (!("kind" in child)) return child;
      const entries = entriesFor(here, new Map([[key, child]]));
      return { ...here, entries: entries.set(key, child) };
    }
    if (here.kind === "list") {
      const count = here.items.length;
      if (!/^\d+$/.test(key) || Number(key) >= count) {
        return {
          path: path.slice(0, depth),
          message: `a list of ${count}; "${key}" is not an index from 0 to ${count - 1}`,
        };
      }
      const child = walk(here.items[Number(key)], depth + 1);
      if (!("kind" in child)) return child;
      return { ...here, items: here.items.with(Number(key), child) };
    }
    return {
      path: path.slice(0, depth),
      message: `a single value (${JSON.stringify(here.value)}), so it has no key "${key}"`,
    };
  };
  return walk(tree, 0);
}
