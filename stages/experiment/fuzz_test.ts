/** Any tree at all in the place of a configuration: problems with their keys, or an experiment. */

import fc from "fast-check";
import { assert } from "@std/assert";
import { join } from "@std/path";
import { parse } from "yaml";
import { ConfigurationError } from "../../pipeline/config/config.ts";
import { loadExperiment } from "./load.ts";
import { PARTS } from "./parts.ts";
import { ROOT } from "../reproduce_testing.ts";

type Tree = { [key: string]: Tree } | Tree[] | string | number | boolean | null;

const BASE = parse(await Deno.readTextFile(join(ROOT, "configs/testing/minimal.yaml"))) as Tree;

/** Paths of all values of a tree. */
function paths(tree: Tree, before: readonly string[] = []): string[][] {
  const inner = tree !== null && typeof tree === "object" ? Object.entries(tree) : [];
  return [[...before], ...inner.flatMap(([key, value]) => paths(value, [...before, key]))];
}

/** A tree with the value at a path put, or taken away where it is `undefined`. */
function put(tree: Tree, path: readonly string[], value: Tree | undefined): Tree {
  const [key, ...rest] = path;
  if (key === undefined) return value ?? null;
  const here: Record<string, Tree> | Tree[] = Array.isArray(tree)
    ? [...tree]
    : { ...(tree !== null && typeof tree === "object" ? tree : {}) };
  const at = here as Record<string, Tree>;
  const inner = Object.hasOwn(at, key) ? at[key]! : null;
  const next = rest.length > 0 ? put(inner, rest, value) : value;
  if (next === undefined) delete at[key];
  // A definition, so that `__proto__` is a key like any other.
  else Object.defineProperty(at, key, { value: next, enumerable: true, configurable: true });
  return Array.isArray(here) ? here.filter((item) => item !== undefined) : here;
}

const KEYS = [...new Set(paths(BASE).flatMap((path) => path.filter((key) => !/^\d+$/.test(key))))];
const value = fc.oneof(
  fc.jsonValue({ maxDepth: 3 }) as fc.Arbitrary<Tree>,
  fc.constantFrom<Tree>(0, -1, 1, 2, 3, 0.5, 64, 2 ** 31, 2 ** 53, 1e300, "", "x", true, [], {}),
  fc.constantFrom<Tree>("ethos", "dense", "mla", "files", "c4", "naive", "none", "own", "cosine"),
  fc.constantFrom<Tree>("model.ffn.d_latent", "train.steps", "model", "seed", "__proto__"),
);
const key = fc.oneof(
  fc.constantFrom(...KEYS, "__proto__", "constructor", "kind", "c4", "files", "0", "extends"),
  fc.string({ maxLength: 5 }),
);
/** The minimal configuration with a few values changed, taken away or added. */
const mutated = fc.array(
  fc.record({
    path: fc.constantFrom(...paths(BASE)),
    more: fc.oneof({ weight: 3, arbitrary: fc.constant([]) }, fc.array(key, { maxLength: 2 })),
    value: fc.option(value, { nil: undefined, freq: 6 }),
  }),
  { minLength: 1, maxLength: 2 },
).map((changes) =>
  changes.reduce<Tree>((tree, { path, more, value }) => put(tree, [...path, ...more], value), BASE)
);
const any = fc.jsonValue({ maxDepth: 4 }) as fc.Arbitrary<Tree>;
const setting = fc.tuple(
  fc.oneof(
    fc.constantFrom(...paths(BASE).map((path) => path.join("."))),
    fc.string({ maxLength: 9 }),
  ),
  value,
).map(([path, value]) => `${path}=${JSON.stringify(value)}`);

/** Each line of a refusal: the place, the path of a key where there is one, and a sentence. */
function checkRefusal(error: unknown, config: string): void {
  assert(error instanceof ConfigurationError, error instanceof Error ? error.stack : String(error));
  assert(error.exitCode === 2 && error.problems.length > 0);
  for (const { place, path, message } of error.problems) {
    assert(place.startsWith(config) || place.startsWith("--set "), `${place}: ${message}`);
    assert(!/\p{Cc}/u.test(path + message) && message.length < 2000, message);
    assert(!/\[object |TypeError|is not a function|Cannot read prop/.test(message), message);
    // A line of its own names the file as a whole; anything in it has a key.
    const whole =
      /a plain word|top of the file|the file is empty|no value|expected keys joined|YAML|prototype/;
    assert(path !== "" || whole.test(message), `${place}: ${message}`);
  }
}

Deno.test("any tree is an experiment or problems with their keys", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const config = join(folder, "a.yaml");
    const counts = { valid: 0, refused: 0 };
    await fc.assert(
      fc.asyncProperty(
        fc.oneof({ weight: 8, arbitrary: mutated }, { weight: 1, arbitrary: any }),
        fc.oneof({ weight: 2, arbitrary: fc.constant([]) }, fc.array(setting, { maxLength: 2 })),
        async (tree, set) => {
          await Deno.writeTextFile(config, JSON.stringify(tree));
          try {
            const { nodes } = await loadExperiment({ config, set }, PARTS);
            assert(nodes.length > 0);
            counts.valid++;
          } catch (error) {
            checkRefusal(error, config);
            counts.refused++;
          }
        },
      ),
      { numRuns: 2000, seed: 17 },
    );
    assert(counts.valid > 50 && counts.refused > 1000, JSON.stringify(counts));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
