import {
  assert,
  assertEquals,
  assertMatch,
  assertNotEquals,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { architectureOf } from "../model/config.ts";
import { denseEquivalent } from "../model/equal_size.ts";
import type { ModelSection } from "../model/section.ts";
import { trainingSteps, type TrainSection } from "../model/training/config.ts";
import { countFlops, countParameters } from "../model/trunk/counts.ts";
import type { JsonValue } from "../pipeline/stage.ts";
import { ConfigurationError } from "../pipeline/config/config.ts";
import { loadAnyExperiment } from "./experiment/kinds.ts";
import { loadExperiment } from "./experiment/load.ts";
import { PARTS } from "./experiment/parts.ts";

const ROOT = fromFileUrl(new URL("..", import.meta.url));
/** Overrides without which a configuration does not load: its text is not part of the repository. */
const NEEDS: Readonly<Record<string, readonly string[]>> = {
  "h200.yaml": [
    `data.files.glob=${join(ROOT, "deno.json")}`,
    `data.files.validation=${join(ROOT, "pipeline/testdata/toy/weights.txt")}`,
  ],
};
const load = (config: string, set: readonly string[] = []) =>
  loadExperiment(
    { config: join(ROOT, "configs", config), set: [...NEEDS[config] ?? [], ...set] },
    PARTS,
  );

interface TrainParams {
  readonly model: Readonly<Record<string, Readonly<Record<string, JsonValue>>>>;
  readonly train: Parameters<typeof trainingSteps>[0];
}

/** Models and runs of every configuration: its head states them, so they should not grow unseen. */
const CONFIGURATIONS: readonly [file: string, cells: number, runs: number][] = [
  ["tiny.yaml", 16, 40],
  ["small.yaml", 11, 31],
  ["paper.yaml", 10, 10],
  ["h200.yaml", 1, 1],
  ["sparse_moe.yaml", 3, 9],
  ["sparse_moe_published.yaml", 3, 9],
  ["sparse_moe_english.yaml", 2, 2],
  ["sparse_moe_512m.yaml", 1, 1],
  ["sparse_moe_1b.yaml", 1, 1],
  ["ablations/positions.yaml", 4, 4],
  ["architectures.yaml", 13, 39],
  ["ablations/d_latent.yaml", 5, 15],
  ["ablations/heads.yaml", 3, 9],
  ["ablations/top_k.yaml", 3, 9],
  ["ablations/context.yaml", 6, 18],
  ["ablations/router.yaml", 2, 6],
  ["ablations/latent_law.yaml", 12, 36],
  ["ablations/latent_law_small.yaml", 15, 60],
];

/** Configurations of Sparse Expansion, with the models that each expands. */
const EXPANSIONS: readonly [file: string, cells: number][] = [
  ["sparse_expansion.yaml", 12],
  ["testing/sparse_expansion_offline.yaml", 11],
];

for (const [file, cells] of EXPANSIONS) {
  Deno.test(`configs/${file} is valid: ${cells} expanded models`, async () => {
    const { nodes } = await loadAnyExperiment({ config: join(ROOT, "configs", file), set: [] });
    const of = (stage: string) => nodes.filter((node) => node.stage.name === stage).length;
    assertEquals([of("expand"), of("perplexity"), of("report")], [cells, cells + 1, 1]);
    for (const node of nodes) {
      const result = node.stage.params.safeParse(node.params);
      assert(result.success, `${node.stage.name}[${node.label}]: ${result.error}`);
    }
  });
}

for (const [file, cells, runs] of CONFIGURATIONS) {
  Deno.test(`configs/${file} is valid: ${cells} cells, ${runs} runs`, async () => {
    const { nodes } = await load(file);
    const train = nodes.filter(({ stage }) => stage.name === "train");
    assertEquals(new Set(train.map(({ labels }) => labels?.cell)).size, cells);
    assertEquals(train.length, runs);
    for (const node of nodes) {
      const result = node.stage.params.safeParse(node.params);
      assert(result.success, `${node.stage.name}[${node.label}]: ${result.error}`);
    }
  });
}

Deno.test("every configuration in the folder is listed here", async () => {
  const found: string[] = [];
  for (const folder of ["", "ablations/"]) {
    for await (const { name, isFile } of Deno.readDir(join(ROOT, "configs", folder))) {
      if (isFile) found.push(folder + name);
    }
  }
  const listed = [...CONFIGURATIONS, ...EXPANSIONS].map(([file]) => file)
    .filter((file) => !file.startsWith("testing/"));
  assertEquals(found.sort(), listed.sort());
});

Deno.test("an ablation's cells are nodes of the reproduction, so they are cached", async () => {
  const params = async (config: string) =>
    new Set(
      (await load(config)).nodes.filter(({ stage }) => stage.name === "train")
        .map(({ params }) => JSON.stringify(params)),
    );
  const [all, heads] = await Promise.all([params("tiny.yaml"), params("ablations/heads.yaml")]);
  // Three seeds of three cells.
  assertEquals(heads.intersection(all).size, 9);
});

Deno.test("the paper's configuration is the paper's", async () => {
  const { nodes } = await load("paper.yaml");
  const train = nodes.filter(({ stage }) => stage.name === "train");
  const paramsOf = (cell: string) =>
    train.find(({ labels }) => labels?.cell === cell)?.params as unknown as TrainParams;
  assertEquals(trainingSteps(paramsOf("base").train), Math.ceil(1.6e9 / 32768));
  assertEquals(paramsOf("d_latent=256").model.ffn?.d_latent, 256);
  assertEquals(paramsOf("architecture=dense").model, {
    ...paramsOf("base").model,
    leading_dense: { num_layers: 0, d_ffn: 2112 },
    ffn: { kind: "dense", d_ffn: 2112 },
  });
});

Deno.test("h200 trains the paper's model by its recipe, but for the length and the warm-up", async () => {
  const base = async (config: string) => {
    const { nodes } = await load(config);
    const node = nodes.find(({ stage, labels }) => stage.name === "train" && labels?.base);
    const { model, train } = node?.params as unknown as {
      model: unknown;
      train: Record<string, unknown> & { learning_rate: object };
    };
    const length = ["tokens", "evaluate_every", "evaluate_tokens", "log_every"];
    const kept = ["keep_checkpoints", "best_of"];
    const rest = Object.entries(train).filter(([key]) => ![...length, ...kept].includes(key));
    const learning_rate = { ...train.learning_rate, warmup_steps: undefined };
    return { model, ...Object.fromEntries(rest), learning_rate };
  };
  assertEquals(await base("h200.yaml"), await base("paper.yaml"));
});

/** Configurations that compare architectures, with the ids of their vocabularies and the quantity that each factor keeps. */
const EQUAL_TERMS = [
  ["tiny.yaml", 512, { architecture: "active" }],
  ["architectures.yaml", 8192, { equal_active: "active", equal_flops: "flops" }],
] as const;

for (const [file, vocab_size, factors] of EQUAL_TERMS) {
  Deno.test(`configs/${file} has every architecture at equal terms, within 1 %`, async () => {
    const { nodes } = await load(file);
    const train = nodes.filter(({ stage }) => stage.name === "train");
    const sizesOf = (cell: string) => {
      const params = train.find(({ labels }) => labels?.cell === cell)?.params;
      const { model, train: { sequence_length } } = params as unknown as {
        model: ModelSection;
        train: TrainSection;
      };
      const architecture = architectureOf({ ...model, vocab_size });
      return {
        model,
        sizes: {
          active: countParameters(architecture).active,
          flops: countFlops(architecture, { sequenceLength: sequence_length }).total,
        },
      };
    };
    const { model: base, sizes } = sizesOf("base");
    const ablate = nodes.find(({ stage }) => stage.name === "ablate")?.params as unknown as {
      factors: { name: string; values: { value: string; cell: string }[] }[];
    };
    for (const [factor, quantity] of Object.entries(factors)) {
      const { values } = ablate.factors.find(({ name }) => name === factor)!;
      assertEquals(values.map(({ value }) => value), [
        "ethos",
        "ethos + beams",
        "ethos + context",
        "peer",
        "switch",
        "topk_moe",
        "dense",
      ]);
      for (const { value, cell } of values) {
        const variant = sizesOf(cell);
        const ratio = variant.sizes[quantity] / sizes[quantity];
        assert(Math.abs(ratio - 1) <= 0.01, `${cell} has ${ratio} times the base's ${quantity}`);
        assertEquals(variant.model.ffn.kind, value.split(" ")[0]);
        // One trunk for all: only the feed-forward layers differ, and the dense model of tiny has no first layer of its own.
        const { ffn: _, ...trunk } = variant.model;
        const { ffn: __, ...expected } = base;
        const { leading_dense } = value === "dense" && file === "tiny.yaml" ? trunk : expected;
        assertEquals(trunk, { ...expected, leading_dense });
      }
    }
  });
}

Deno.test("the dense cell of tiny matches its active parameters", async () => {
  const { nodes } = await load("tiny.yaml");
  const cell = (name: string) =>
    nodes.find(({ labels }) => labels?.cell === name)?.params as unknown as {
      model: Parameters<typeof denseEquivalent>[0];
    };
  const expected = denseEquivalent({ ...cell("base").model, vocab_size: 512 });
  assertEquals(cell("architecture=dense").model.ffn, expected.ffn);
});

Deno.test("local files that aren't there are refused before anything starts; others are part of the key", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const set = ["data.source=files", `data.files.glob=${folder}/*.txt`];
    const error = await assertRejects(() => load("tiny.yaml", set), ConfigurationError);
    assertStringIncludes(error.message, "tiny.yaml: data: No file matches data.files.glob");
    const fingerprint = async () => {
      const { nodes } = await load("tiny.yaml", set);
      return JSON.stringify(nodes.find(({ stage }) => stage.name === "download")?.params);
    };
    await Deno.writeTextFile(join(folder, "a.txt"), "one");
    const before = await fingerprint();
    assertEquals(await fingerprint(), before);
    await Deno.writeTextFile(join(folder, "a.txt"), "longer");
    assertNotEquals(await fingerprint(), before);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("text rewritten with the same size and time is seen; --verify-inputs reads all of it", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const [path, store] = [join(folder, "a.txt"), join(folder, "store")];
    const config = join(folder, "a.yaml");
    const old = new Date("2020-01-02T03:04:05Z");
    const write = async (text: string) => {
      await Deno.writeTextFile(path, text);
      await Deno.utime(path, old, old);
    };
    const task = async (...args: string[]) => {
      const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
        args: ["run", "-A", "--no-check", "stages/main.ts", ...args]
          .concat("--config", config, "--store", store),
        cwd: ROOT,
      }).output();
      const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
      assertEquals(code, 0, text(stderr));
      return { stdout: text(stdout), stderr: text(stderr) };
    };
    await Deno.writeTextFile(
      config,
      `extends: ${join(ROOT, "configs/testing/minimal.yaml")}\n` +
        `data: { source: files, max_bytes: 1000, files: { glob: "${folder}/*.txt" } }\n`,
    );
    await Deno.symlink("nowhere", join(folder, "lost.txt"));
    await write("one and");
    const first = await task("reproduce", "--only", "download");
    assertMatch(first.stdout, /^done +download$/m);
    assertStringIncludes(first.stderr, "lost.txt is left out");
    assertMatch((await task("status")).stdout, /^cached +download$/m);
    const inputs = join(store, "inputs.json");
    const kept = JSON.parse(await Deno.readTextFile(inputs));
    assertEquals(Object.keys(kept.files), [path]);

    await write("two and");
    const changed = (await task("status")).stdout;
    assertStringIncludes(changed, "stale    download: params.files.fingerprint");
    await write("one and");
    assertMatch((await task("status")).stdout, /^cached +download$/m);

    // A record that lies, as if the disk had changed bytes and told nobody: only reading finds it out.
    const { mtime, ctime, ino } = await Deno.stat(path);
    const times = { mtime: mtime!.getTime(), ctime: ctime!.getTime(), inode: ino };
    const lie = { size: 7, ...times, read_at: ctime!.getTime() + 5000, sha256: "0".repeat(64) };
    await Deno.writeTextFile(inputs, JSON.stringify({ format: 1, files: { [path]: lie } }));
    assertStringIncludes(
      (await task("status")).stdout,
      "stale    download: params.files.fingerprint",
    );
    assertMatch((await task("status", "--verify-inputs")).stdout, /^cached +download$/m);
    await Deno.writeTextFile(inputs, "{ torn");
    assertMatch((await task("status")).stdout, /^cached +download$/m);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("the program itself refuses a bad configuration with exit code 2", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const config = join(folder, "bad.yaml");
    await Deno.writeTextFile(config, `extends: ${join(ROOT, "configs/tiny.yaml")}\nmodle: {}\n`);
    const { code, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--no-prompt", "--allow-read", "--allow-env", "stages/main.ts"]
        .concat("reproduce", "--config", config, "--store", join(folder, "store")),
      cwd: ROOT,
      stdout: "null",
      stderr: "piped",
    }).output();
    const message = new TextDecoder().decode(stderr);
    assertEquals(code, 2, message);
    assertStringIncludes(message, `${config}:2: modle: unknown key; did you mean model?`);
    assertEquals((await Array.fromAsync(Deno.readDir(folder))).length, 1);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
