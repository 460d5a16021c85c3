import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { ConfigurationError, loadConfiguration } from "../../pipeline/config/config.ts";
import { experimentSchema } from "./config.ts";
import { MINIMAL, testParts } from "./config_testing.ts";
import { MALFORMED, withLines, writeMalformed } from "./malformed_testing.ts";

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
  assertEquals(ffn.kind === "ethos" && [ffn.num_experts, ffn.d_latent], [262144, 64]);
  assertEquals([ffn.kind, attention.kind], ["ethos", "mla"]);
  assertEquals([attention.num_heads, attention.rope_base], [16, 500]);
  assertEquals(value.seeds, [4, 5]);
  assertEquals(value.train.learning_rate.schedule, "cosine");
  assertEquals(value.train.clip_norm, 1);
  assertEquals(value.results, "results");
});
