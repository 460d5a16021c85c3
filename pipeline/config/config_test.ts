import { assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { z } from "zod";
import { ConfigurationError, loadConfiguration } from "./config.ts";
import { explainIssues } from "./explain.ts";
import { nearest } from "../terminal/closest.ts";
import { placeOf, plainValue, setPath } from "./tree.ts";
import { parseYaml } from "./yaml.ts";

const schema = z.strictObject({
  name: z.string().default("none"),
  sizes: z.strictObject({
    width: z.int().min(1).max(100).default(8),
    heights: z.array(z.number()).default([]),
  }).prefault({}),
  mode: z.enum(["slow", "fast"]).default("slow"),
});

/** Writes files to a folder, runs, and removes it. */
async function inFolder(
  files: Readonly<Record<string, string>>,
  run: (folder: string) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    for (const [name, text] of Object.entries(files)) {
      await Deno.mkdir(join(folder, name, ".."), { recursive: true });
      await Deno.writeTextFile(join(folder, name), text);
    }
    await run(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("extends merges maps key by key and replaces lists, relative to the file that says so", async () => {
  const files = {
    "base.yaml": "name: base\nsizes: { width: 3, heights: [1, 2, 3] }\n",
    "nested/middle.yaml": "extends: ../base.yaml\nsizes: { heights: [9] }\n",
    "top.yaml": "extends: nested/middle.yaml\nname: top\n",
  };
  await inFolder(files, async (folder) => {
    const { value, files } = await loadConfiguration(join(folder, "top.yaml"), { schema });
    assertEquals(value, { name: "top", sizes: { width: 3, heights: [9] }, mode: "slow" });
    assertEquals(
      files,
      ["top.yaml", "nested/middle.yaml", "base.yaml"].map((f) => join(folder, f)),
    );
  });
});

Deno.test("a section that is only commented out extends nothing", async () => {
  await inFolder(
    { "a.yaml": "name: &n hello\nmode: fast\nsizes:\n  # width: 3\n  heights: []\n" },
    async (folder) => {
      const { value } = await loadConfiguration(join(folder, "a.yaml"), { schema });
      assertEquals(value, { name: "hello", sizes: { width: 8, heights: [] }, mode: "fast" });
    },
  );
});

Deno.test("a problem is told at the line of the file that last gave the value", async () => {
  const files = {
    "base.yaml": "name: base\nsizes:\n  width: 300\n  heights: [1, x]\n",
    "top.yaml": "extends: base.yaml\n\nsizes:\n  width: 200\n",
  };
  await inFolder(files, async (folder) => {
    const error = await assertRejects(
      () => loadConfiguration(join(folder, "top.yaml"), { schema, set: ["mode=fst"] }),
      ConfigurationError,
    );
    assertEquals(error.message.replaceAll(`${folder}/`, "").split("\n"), [
      "top.yaml:4: sizes.width: expected a whole number from 1 to 100, got 200",
      'base.yaml:4: sizes.heights.1: expected a number, got "x"',
      '--set mode=fst: mode: expected one of slow, fast, got "fst"; did you mean fast?',
    ]);
  });
});

Deno.test("overrides are YAML, later ones win, and an index reaches into a list", async () => {
  await inFolder({ "a.yaml": "sizes: { heights: [1, 2] }\n" }, async (folder) => {
    const { value } = await loadConfiguration(join(folder, "a.yaml"), {
      schema,
      set: ["sizes.width=4", "sizes.width=5", "sizes.heights.1=1e-3", "name=a=b", 'mode="fast"'],
    });
    assertEquals(value, { name: "a=b", sizes: { width: 5, heights: [1, 1e-3] }, mode: "fast" });
  });
});

Deno.test("another kind of section takes the place of the one below it", async () => {
  const layer = z.discriminatedUnion("kind", [
    z.strictObject({ kind: z.literal("wide"), width: z.int() }),
    z.strictObject({ kind: z.literal("deep"), depth: z.int() }),
  ]);
  const files = {
    "base.yaml": "layer: { kind: wide, width: 3 }\n",
    "same.yaml": "extends: base.yaml\nlayer: { kind: wide }\n",
    "other.yaml": "extends: base.yaml\nlayer: { kind: deep, depth: 2 }\n",
  };
  await inFolder(files, async (folder) => {
    const load = async (file: string, ...set: string[]) => {
      const schema = z.strictObject({ layer });
      return (await loadConfiguration(join(folder, file), { schema, set })).value.layer;
    };
    assertEquals(await load("same.yaml"), { kind: "wide", width: 3 });
    assertEquals(await load("other.yaml"), { kind: "deep", depth: 2 });
    assertEquals(await load("base.yaml", "layer.kind=wide"), { kind: "wide", width: 3 });
    // The kind counts first, wherever it stands.
    const deep = await load("base.yaml", "layer.depth=5", "layer.kind=deep");
    assertEquals(deep, { kind: "deep", depth: 5 });
  });
});

Deno.test("another source takes away the section of the one before, and nothing else", async () => {
  const schema = z.strictObject({
    data: z.strictObject({
      source: z.string(),
      most: z.int(),
      hub: z.strictObject({ dataset: z.string() }).optional(),
      files: z.strictObject({ glob: z.string() }).optional(),
    }),
  });
  await inFolder({
    "base.yaml": "data: { source: hub, most: 3, hub: { dataset: a } }\n",
    "same.yaml": "extends: base.yaml\ndata: { source: hub, hub: { dataset: b } }\n",
    "other.yaml": "extends: base.yaml\ndata: { source: files, files: { glob: c } }\n",
  }, async (folder) => {
    const load = async (name: string, ...set: string[]) =>
      (await loadConfiguration(join(folder, name), { schema, set })).value.data;
    const base = { source: "hub", most: 3, hub: { dataset: "a" } };
    assertEquals(await load("base.yaml"), base);
    assertEquals(await load("same.yaml"), { ...base, hub: { dataset: "b" } });
    const files = { source: "files", most: 3, files: { glob: "c" } };
    assertEquals(await load("other.yaml"), files);
    assertEquals(await load("base.yaml", "data.files.glob=c", "data.source=files"), files);
    assertEquals(await load("base.yaml", "data.source=own"), { source: "own", most: 3 });
    assertEquals(await load("base.yaml", "data.source=hub"), base);
  });
});

Deno.test("another router of a kind takes the place of all keys but the kind", async () => {
  const layer = z.discriminatedUnion("kind", [
    z.discriminatedUnion("router", [
      z.strictObject({
        kind: z.literal("sparse"),
        router: z.literal("keys").optional().default("keys"),
        keys: z.int(),
      }),
      z.strictObject({ kind: z.literal("sparse"), router: z.literal("beam"), beams: z.int() }),
    ]),
    z.strictObject({ kind: z.literal("wide"), width: z.int() }),
  ]);
  const files = {
    "base.yaml": "layer: { kind: sparse, router: keys, keys: 3 }\n",
    "plain.yaml": "layer: { kind: sparse, keys: 3 }\n",
    "beam.yaml": "extends: base.yaml\nlayer: { router: beam, beams: 2 }\n",
    "wide.yaml": "extends: base.yaml\nlayer: { kind: wide, width: 2 }\n",
  };
  await inFolder(files, async (folder) => {
    const load = async (file: string, ...set: string[]) => {
      const schema = z.strictObject({ layer });
      return (await loadConfiguration(join(folder, file), { schema, set })).value.layer;
    };
    const beam = { kind: "sparse", router: "beam", beams: 2 } as const;
    assertEquals(await load("beam.yaml"), beam);
    assertEquals(await load("wide.yaml"), { kind: "wide", width: 2 });
    assertEquals(await load("base.yaml", "layer.beams=2", "layer.router=beam"), beam);
    // A kind comes before its router.
    const back = ["layer.beams=2", "layer.router=beam", "layer.kind=sparse"];
    assertEquals(await load("wide.yaml", ...back), beam);
    assertEquals(await load("plain.yaml", "layer.keys=4"), {
      kind: "sparse",
      router: "keys",
      keys: 4,
    });
    const error = await assertRejects(
      () => load("plain.yaml", "layer.router=beam", "layer.beams=2"),
      ConfigurationError,
    );
    assertEquals(error.problems.map(({ path }) => path), ["layer.keys"]);
  });
});

Deno.test("a key that a section has deeper is found before one that is spelled alike", () => {
  const schema = z.strictObject({
    top: z.strictObject({
      kept: z.int().optional(),
      gone: z.custom((value) => value === undefined).optional().meta({ deprecated: true }),
      inner: z.strictObject({ keep: z.int().optional() }).optional(),
    }),
  });
  const explained = (key: string) => {
    const value = { top: { [key]: 1 } };
    const { error } = schema.safeParse(value);
    return explainIssues(error!.issues, { schema, value })[0]!.message;
  };
  assertEquals(explained("keep"), "unknown key here; did you mean top.inner.keep?");
  assertEquals(explained("kepp"), "unknown key; did you mean kept?");
  assertEquals(explained("gonne"), "unknown key; expected one of inner, kept");
});

Deno.test("all bad overrides are told at once", async () => {
  await inFolder({ "a.yaml": "name: x\n" }, async (folder) => {
    const error = await assertRejects(
      () =>
        loadConfiguration(join(folder, "a.yaml"), { schema, set: ["name", "a..b=1", "mode=null"] }),
      ConfigurationError,
    );
    assertEquals(error.problems.map(({ place }) => place), [
      "--set name",
      "--set a..b=1",
      "--set mode=null",
    ]);
  });
});

Deno.test("a chain of files has an end", async () => {
  const files = Object.fromEntries(
    Array.from({ length: 20 }, (_, i) => [`${i}.yaml`, `extends: ${i + 1}.yaml\n`]),
  );
  await inFolder(files, async (folder) => {
    const error = await assertRejects(
      () => loadConfiguration(join(folder, "0.yaml"), { schema }),
      ConfigurationError,
    );
    assertStringIncludes(error.message, "more than 16 files extend one another");
  });
});

Deno.test("a few aliases are fine, and are copies", () => {
  const tree = parseYaml("a: &x { b: 1 }\nc: *x\n", { place: (line) => `l${line}`, whole: "text" });
  assertEquals(tree === undefined ? undefined : plainValue(tree), { a: { b: 1 }, c: { b: 1 } });
  assertEquals(tree === undefined ? "" : placeOf(tree, ["c", "missing"]), "l2");
});

Deno.test("a path that leads nowhere is refused with what was met", () => {
  const tree = parseYaml("a: { b: 1 }\n", { place: (line) => `l${line}`, whole: "text" });
  if (tree === undefined) throw new Error("nothing parsed");
  const value = { kind: "scalar", place: "set", value: 2 } as const;
  assertEquals(setPath(tree, ["a", "b", "c"], value), {
    path: ["a", "b"],
    message: 'a single value (1), so it has no key "c"',
  });
  const changed = setPath(tree, ["x", "y"], value);
  assertEquals("kind" in changed ? plainValue(changed) : changed, { a: { b: 1 }, x: { y: 2 } });
  assertEquals(plainValue(tree), { a: { b: 1 } }, "the tree that was given stays as it was");
});

Deno.test("keys that are no words are refused", () => {
  const error = assertThrows(
    () => parseYaml("a:\n  ? [1, 2]\n  : 3\n", { place: (line) => `l${line}`, whole: "text" }),
    ConfigurationError,
  );
  assertEquals(error.message, "l2: a: a key must be a plain word");
});

Deno.test("suggestions are close or absent", () => {
  assertEquals(nearest("modle", ["model", "name"]), "model");
  assertEquals(nearest("x", ["y"]), undefined);
  assertEquals(nearest("seed", []), undefined);
});

Deno.test("unions explain the branch that was meant", () => {
  const union = z.strictObject({
    value: z.union([z.number().min(0), z.strictObject({ from: z.int(), to: z.int() })]),
  });
  const explain = (value: unknown) =>
    explainIssues(union.safeParse(value).error?.issues ?? [], { schema: union, value });
  assertEquals(explain({ value: { from: 1, to: "x" } }), [
    { path: ["value", "to"], message: 'expected a whole number, got "x"' },
  ]);
  assertEquals(explain({ value: true }), [{
    path: ["value"],
    message: "expected a number at least 0 or a section (keys with values), got true",
  }]);
});
