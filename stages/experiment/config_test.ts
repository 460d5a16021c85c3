import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { ConfigurationError, loadConfiguration } from "../../pipeline/config/config.ts";
import { experimentSchema } from "./config.ts";
import { MINIMAL, testParts } from "./config_testing.ts";
import { MALFORMED } from "./malformed/all_testing.ts";
import { withLines, writeMalformed } from "./malformed/malformed_testing.ts";

const schema = experimentSchema(testParts);

Deno.test("malformed configurations are refused with a key path and a helpful sentence", async (t) => {
  assert(MALFORMED.length >= 40);
  for (const malformed of MALFORMED) {
    await t.step(malformed.what, async () => {
      const folder = await Deno.makeTempDir();
      try {
        const path = await writeMalformed(malformed, folder);
        const { set = [] } = malformed;
        const error = await assertRejects(
          () => loadConfiguration(path, { schema, set }),
          ConfigurationError,
        );
        assertEquals(error.exitCode, 2);
        for (const part of malformed.says) assertStringIncludes(error.message, part);
      } finally {
        await Deno.remove(folder, { recursive: true });
      }
    });
  }
  assertEquals(({} as Record<string, unknown>).polluted, undefined);
});

Deno.test("every problem is listed, each on its line", async () => {
  const file = await Deno.makeTempFile({ suffix: ".yaml" });
  await Deno.writeTextFile(
    file,
    withLines("model:", "  ffn: { kind: ethos, d_latnt: 64, num_experts: 1000 }", "seed: x"),
  );
  const error = await assertRejects(
    () => loadConfiguration(file, { schema }),
    ConfigurationError,
  );
  await Deno.remove(file);
  assertEquals(error.problems.map(({ path }) => path).sort(), [
    "model.ffn.d_latnt",
    "model.ffn.num_experts",
    "seed",
  ]);
  assertEquals(error.message.split("\n").length, 3);
});

Deno.test("a wrong model is one problem, not one of each cell too", async () => {
  const file = await Deno.makeTempFile({ suffix: ".yaml" });
  const factor = "{ name: latent, title: Latent, path: model.ffn.d_latent, values: [8, 16] }";
  await Deno.writeTextFile(
    file,
    withLines("model:", "  ffn: { kind: ethos, num_experts: 1000 }", `ablations: [${factor}]`),
  );
  const error = await assertRejects(() => loadConfiguration(file, { schema }), ConfigurationError);
  await Deno.remove(file);
  assertEquals(error.problems.map(({ path }) => path), ["model.ffn.num_experts"]);
});

Deno.test("sizes of beams that are none are refused by themselves, each on a line", async () => {
  const file = await Deno.makeTempFile({ suffix: ".yaml" });
  await Deno.writeTextFile(file, MINIMAL);
  const set = ["router=beam", "axis_size=0", "axes=0", "beam_width=0"];
  const error = await assertRejects(
    () => loadConfiguration(file, { schema, set: set.map((item) => `model.ffn.${item}`) }),
    ConfigurationError,
  );
  await Deno.remove(file);
  assertEquals(error.problems.map(({ path }) => path), [
    "model.ffn.axes",
    "model.ffn.axis_size",
    "model.ffn.beam_width",
  ]);
});

Deno.test("a minimal configuration gets the paper's defaults", async () => {
  const file = await Deno.makeTempFile({ suffix: ".yaml" });
  await Deno.writeTextFile(file, MINIMAL);
  const { value } = await loadConfiguration(file, {
    schema,
    set: [
      "model.ffn.d_latent=64",
      "model.attention.rope_base=500",
      "seeds=[4, 5]",
      "train.learning_rate.schedule=cosine",
    ],
  });
  await Deno.remove(file);
  const { ffn, attention } = value.model;
  assertEquals("num_experts" in ffn && "d_latent" in ffn && [ffn.num_experts, ffn.d_latent], [
    262144,
    64,
  ]);
  assertEquals([ffn.kind, attention.kind], ["ethos", "mla"]);
  assertEquals([attention.num_heads, attention.rope_base], [16, 500]);
  assertEquals(value.seeds, [4, 5]);
  assertEquals(value.train.learning_rate.schedule, "cosine");
  assertEquals(value.train.clip_norm, 1);
  assertEquals(value.results, "results");
  assertEquals("documents" in value.train, false);
});

Deno.test("a configuration without samples has no parameter of theirs, and 0 is none; with them defaults are said", async () => {
  const file = await Deno.makeTempFile({ suffix: ".yaml" });
  await Deno.writeTextFile(file, MINIMAL);
  const train = async (...set: string[]) =>
    (await loadConfiguration(file, { schema, set })).value.train;
  const none = await train();
  assertEquals(Object.keys(none).filter((key) => key.startsWith("sample_")), []);
  assertEquals(
    await train("train.sample_every=0", "train.sample_prompts=[a]", "train.sample_tokens=5"),
    none,
  );
  const all = {
    sample_every: 10,
    sample_prompts: [""],
    sample_tokens: 64,
    sample_temperature: 1,
  };
  assertEquals(await train("train.sample_every=10"), { ...none, ...all });
  assertEquals(
    await train(...Object.entries(all).map(([k, v]) => `train.${k}=${JSON.stringify(v)}`)),
    await train("train.sample_every=10"),
  );
  await Deno.remove(file);
});

Deno.test("packed documents are the default, said or not", async () => {
  const file = await Deno.makeTempFile({ suffix: ".yaml" });
  await Deno.writeTextFile(file, MINIMAL);
  const train = async (...set: string[]) =>
    (await loadConfiguration(file, { schema, set })).value.train;
  assertEquals(await train("train.documents=packed"), await train());
  assertEquals((await train("train.documents=single")).documents, "single");
  await Deno.remove(file);
});

Deno.test("numbers that generators or counters would take for others are refused", async () => {
  const file = await Deno.makeTempFile({ suffix: ".yaml" });
  await Deno.writeTextFile(file, MINIMAL);
  const cases: readonly (readonly [set: readonly string[], says: string])[] = [
    [["seed=4294967297"], "seed: expected a whole number from 0 to 1073741824, got 4294967297"],
    [["seeds=[4294967297]"], "seeds.0: expected a whole number from 0 to 2147483647"],
    [
      ["seeds=[2147483647]", "seed=1073741824"],
      "seed: 1073741824 and the training seed 2147483647 come to 3221225471; at most 2147483647",
    ],
    // The device counts updates in f32.
    [["train.steps=16777217"], "train.steps: expected a whole number from 1 to 16777216"],
    [["train.steps=9007199254740993"], "train.steps: expected a whole number"],
    [
      [
        "train.steps=16777216",
        "train.sequence_length=4096",
        "train.micro_batch=1024",
        "train.gradient_accumulation=65536",
      ],
      "updates of 274877906944 tokens are 4611686018427388000 tokens; at most 10000000000000",
    ],
  ];
  for (const [set, says] of cases) {
    const error = await assertRejects(
      () => loadConfiguration(file, { schema, set }),
      ConfigurationError,
    );
    assertStringIncludes(error.message, says);
  }
  await Deno.writeTextFile(file, MINIMAL.replace("steps: 100", "tokens: 10000000000000"));
  const error = await assertRejects(
    () =>
      loadConfiguration(file, { schema, set: ["train.micro_batch=1", "train.sequence_length=1"] }),
    ConfigurationError,
  );
  assertStringIncludes(
    error.message,
    "train.tokens: 10000000000000 tokens are 10000000000000 updates of 1; at most 16777216",
  );
  await Deno.writeTextFile(file, MINIMAL);
  const { value } = await loadConfiguration(file, {
    schema,
    set: ["seeds=[1073741823]", "seed=1073741824", "train.steps=16777216"],
  });
  assertEquals(value.train.steps, 2 ** 24);
  await Deno.remove(file);
});
