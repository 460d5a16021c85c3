/**
 * Loads a configuration: reads YAML and the files that it extends, applies overrides from the command line, and checks
 * the result against a schema that the caller gives.
 *
 * @module
 */

import { dirname, isAbsolute, join, normalize } from "@std/path";
import type { z } from "zod";
import { ConfigurationError, type ConfigurationProblem } from "./error.ts";
import { explainIssues } from "./explain.ts";
import { choiceOrder, type ConfigTree, mergeTrees, placeOf, plainValue, setPath } from "./tree.ts";
import { parseYaml, readYamlFile } from "./yaml.ts";

/** Files in one chain of `extends`. */
const MAXIMUM_CHAIN = 16;

/**
 * Any Zod schema of `T`.
 *
 * @ignore Zod's own documentation describes it.
 */
export type ConfigurationSchema<T> = z.ZodType<T>;

/** Options of {@linkcode loadConfiguration}. */
export interface LoadConfigurationOptions<T> {
  /** Checks the configuration; strict objects find typos. */
  readonly schema: ConfigurationSchema<T>;
  /** Overrides, `model.ffn.d_latent=64`, in the order given; later ones win. */
  readonly set?: readonly string[];
}

/** A configuration that its schema has accepted. */
export interface LoadedConfiguration<T> {
  /** The value that the schema returned, defaults filled in. */
  readonly value: T;
  /** Files it was read from: the one asked for, then what it extends. */
  readonly files: readonly string[];
}

/**
 * Loads the YAML file at `path`.
 *
 * - `extends: other.yaml` at the top names a file, relative to this one. This file is laid over it: maps are merged key
 *   by key; lists, single values and maps of another `kind` (or `router`) are replaced. Where `source` changes from `hub`, a map `hub` beside it goes.
 * - Each of `set` is `path=value`: keys joined by dots, an index for an item of a list, the value in YAML
 *   (`64`, `[1, 2]`, `cosine`). A `kind` is set before the other keys, then a `router`.
 * - The result must satisfy `schema`.
 *
 * @throws {ConfigurationError} With every problem that could be found, each with its file, line and key.
 *
 * @example
 * ```ts
 * import { z } from "zod";
 * import { loadConfiguration } from "./config.ts";
 * const path = await Deno.makeTempFile({ suffix: ".yaml" });
 * await Deno.writeTextFile(path, "seed: 1\n");
 * const schema = z.strictObject({ seed: z.int(), steps: z.int().default(10) });
 * const { value } = await loadConfiguration(path, { schema, set: ["seed=2"] });
 * console.assert(value.seed === 2 && value.steps === 10);
 * await Deno.remove(path);
 * ```
 */
export async function loadConfiguration<T>(
  path: string,
  options: LoadConfigurationOptions<T>,
): Promise<LoadedConfiguration<T>> {
  const files: string[] = [];
  const fromFiles = await loadChain(path, files);
  const tree = applyOverrides(fromFiles, options.set ?? []);
  const value = plainValue(tree);
  const parsed = options.schema.safeParse(value);
  if (!parsed.success) {
    throw new ConfigurationError(
      explainIssues(parsed.error.issues, { schema: options.schema, value })
        .map(({ path, message }) => ({
          place: placeOf(tree, path),
          path: path.join("."),
          message,
        })),
    );
  }
  return { value: parsed.data, files };
}

/** A file laid over what it extends. `files` collects the chain and finds cycles. */
async function loadChain(path: string, files: string[]): Promise<ConfigTree> {
  files.push(path);
  const tree = await readYamlFile(path);
  if (tree.kind !== "map") return tree;
  const parent = tree.entries.get("extends");
  if (parent === undefined) return tree;
  tree.entries.delete("extends");

  const refuse = (message: string, options?: ErrorOptions) =>
    new ConfigurationError([{ place: parent.place, path: "extends", message }], options);
  if (parent.kind !== "scalar" || typeof parent.value !== "string" || parent.value === "") {
    throw refuse("expected the path of a YAML file, such as tiny.yaml");
  }
  const parentPath = isAbsolute(parent.value)
    ? normalize(parent.value)
    : join(dirname(path), parent.value);
  const chain = [...files, parentPath].join(" → ");
  if (files.some((file) => normalize(file) === normalize(parentPath))) {
    throw refuse(`a file can't extend itself: ${chain}`);
  }
  if (files.length >= MAXIMUM_CHAIN) {
    throw refuse(`more than ${MAXIMUM_CHAIN} files extend one another: ${chain}`);
  }
  try {
    return mergeTrees(await loadChain(parentPath, files), tree);
  } catch (error) {
    if (!(error instanceof ConfigurationError) || !isUnreadable(error, parentPath)) throw error;
    const [first] = error.problems;
    throw refuse(`${parentPath}: ${first?.message}`, { cause: error });
  }
}

/** Whether the error is about the file as a whole, so that the line that names it is the place to look. */
function isUnreadable(error: ConfigurationError, path: string): boolean {
  return error.problems.length === 1 && error.problems[0]?.place === path;
}

/** Lays `--set` items over the files. */
function applyOverrides(tree: ConfigTree, items: readonly string[]): ConfigTree {
  const problems: ConfigurationProblem[] = [];
  /** Keys that decide which others there are come first. */
  const order = (item: string) => choiceOrder(/^[^=]*\.([^=.]*)=/.exec(item)?.[1]?.trim() ?? "");
  for (const item of items.toSorted((a, b) => order(a) - order(b))) {
    const place = `--set ${item}`;
    const refuse = (path: string, message: string) => problems.push({ place, path, message });
    const split = item.indexOf("=");
    const name = (split < 0 ? item : item.slice(0, split)).trim();
    if (split < 0) {
      refuse(name, `no value; write ${name || "KEY"}=VALUE`);
      continue;
    }
    const path = name.split(".");
    if (path.some((step) => step.trim() === "")) {
      refuse(name, "expected keys joined by dots before the =, such as model.ffn.d_latent=64");
      continue;
    }
    try {
      const value = parseYaml(item.slice(split + 1), { place: () => place, whole: place });
      if (value === undefined || (value.kind === "scalar" && value.value === null)) {
        refuse(name, `no value; write ${name}=VALUE`);
      } else if (value.kind === "map") {
        refuse(name, "a section can't be set whole; set its keys one by one, or quote the text");
      } else {
        const result = setPath(tree, path, value);
        if ("kind" in result) tree = result;
        else refuse(result.path.join("."), result.message);
      }
    } catch (error) {
      if (!(error instanceof ConfigurationError)) throw error;
      problems.push(...error.problems.map(({ message }) => ({ place, path: name, message })));
    }
  }
  if (problems.length > 0) throw new ConfigurationError(problems);
  return tree;
}

export { ConfigurationError, type ConfigurationProblem };
