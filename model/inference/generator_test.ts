import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { BEAM, DENSE, PEER } from "../testing.ts";
import type { Architecture } from "../trunk/architecture.ts";
import type { Gpu } from "../gpu/device.ts";
import { compilesSlowly, openTestGpu } from "../gpu/testing.ts";
import { download } from "../gpu/transfer.ts";
import { generateText } from "./generate_text.ts";
import { CapacityError, Generator } from "./generator.ts";
import { NotFiniteError } from "./log_probability.ts";
import { Sampling, type SamplingOptions } from "./sampling.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { InferenceModel } from "./model.ts";
import { openInferenceModel } from "./open.ts";
import { noisyTensors, smallModel, writeModelFile } from "./inference_testing.ts";
import { LayerContext } from "../layer/context.ts";
import { headLogits } from "../trunk/head.ts";
import { recordForward } from "../trunk/network.ts";
import { assertNear, Inputs, runOnce } from "../ops/testing.ts";
import { ReferenceModel } from "../reference/model.ts";
import { trainSchema } from "../training/config.ts";
import { Trainer } from "../training/trainer.ts";

const VOCABULARY = 50;
const TOKENS = Uint32Array.from({ length: 37 }, (_, i) => (i * i * 7 + 3 * i + 11) % VOCABULARY);

/** A model file of this configuration, opened for as long as `work` takes. */
async function withModel(
  architecture: Architecture,
  work: (model: InferenceModel, tensors: Map<string, Float64Array>) => Promise<void>,
  options: {
    precision?: "f32" | "mixed";
    gpu?: Gpu;
    spoil?: (tensors: Map<string, Float64Array>) => void;
  } = {},
): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    const path = join(folder, "model.safetensors");
    const tensors = noisyTensors(architecture, 5);
    options.spoil?.(tensors);
    await writeModelFile(path, architecture, tensors);
    using model = await openInferenceModel(options.gpu ?? await openTestGpu(), path, options);
    await work(model, tensors);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Logits `[L, V]` of the training's forward pass in evaluation mode. */
async function forwardLogits(model: InferenceModel): Promise<Float32Array> {
  const { gpu, architecture, weights } = model;
  using inputs = new Inputs(gpu);
  const tokens = inputs.tensor("tokens", [TOKENS.length], { dtype: "u32", values: TOKENS });
  const { logits } = await runOnce(gpu, (plan) => {
    const context = new LayerContext(plan, weights, {
      batch: 1,
      length: TOKENS.length,
      mode: "evaluate",
    });
    const { x } = recordForward(context, architecture, { tokens });
    return { logits: headLogits(context, { architecture, x }) };
  });
  const width = logits.length / TOKENS.length;
  const packed = new Float32Array(TOKENS.length * VOCABULARY);
  for (let t = 0; t < TOKENS.length; t++) {
    packed.set(logits.subarray(t * width, t * width + VOCABULARY), t * VOCABULARY);
  }
  return packed;
}

/** Logits after each fed piece. */
async function fedLogits(
  generator: Generator,
  pieces: readonly number[],
): Promise<{ position: number; logits: Float32Array }[]> {
  generator.reset();
  const found = [];
  let at = 0;
  for (const piece of pieces) {
    const logits = await generator.feed(TOKENS.subarray(at, at += piece));
    found.push({ position: at - 1, logits });
  }
  return found;
}

/** The tokens that follow the first ones, chosen by the host or by the device in pieces. */
async function continued(
  generator: Generator,
  options: Partial<SamplingOptions>,
  pieces: readonly number[] | undefined,
): Promise<number[]> {
  const sampling = new Sampling(options, 3);
  generator.reset();
  const tokens = [...TOKENS.subarray(0, 19)];
  sampling.note(tokens);
  tokens.push(sampling.choose(await generator.feed(tokens)));
  if (!pieces) {
    while (tokens.length < 34) {
      tokens.push(sampling.choose(await generator.feed(tokens.slice(-1))));
    }
  }
  for (const piece of pieces ?? []) {
    for (const { token } of await generator.choose(tokens.at(-1)!, sampling, piece)) {
      tokens.push(token);
    }
  }
  return tokens;
}

const CASES: readonly [name: string, architecture: Architecture][] = [
  ["static generation", smallModel(VOCABULARY)],
  [
    "context-aware generation, no batch norm",
    smallModel(VOCABULARY, {
      ffn: { d_context: 8, router_batch_norm: false, execution: "naive" },
    }),
  ],
  [
    "experts behind beams, context-aware",
    smallModel(VOCABULARY, {
      ffn: { ...BEAM, d_context: 8 },
    }),
  ],
  ["a dense model", smallModel(VOCABULARY, DENSE)],
  [
    "a dense model with gelu",
    smallModel(VOCABULARY, { ...DENSE, ffn: { ...DENSE.ffn, activation: "gelu" } }),
  ],
  ["stored experts", smallModel(VOCABULARY, { ffn: PEER })],
  [
    "as many generated experts as a mass asks for",
    smallModel(VOCABULARY, { ffn: { choice: "mass", mass: 0.6 } }),
  ],
  ["switch", smallModel(VOCABULARY, { ffn: { kind: "switch", num_experts: 5, d_expert: 20 } })],
  [
    "topk_moe",
    smallModel(VOCABULARY, {
      ffn: { kind: "topk_moe", num_experts: 6, top_k: 3, d_expert: 20, gelu: "exact" },
    }),
  ],
  [
    "topk_moe, by probabilities",
    smallModel(VOCABULARY, {
      ffn: {
        kind: "topk_moe",
        num_experts: 6,
        top_k: 3,
        d_expert: 20,
        choice: "top_p",
        top_p: 0.5,
      },
    }),
  ],
  [
    "multi-head attention and learned positions",
    smallModel(VOCABULARY, {
      ...DENSE,
      attention: { kind: "mha", num_heads: 6 },
      trunk: { norm: "layer", positions: "learned", max_positions: 37 },
    }),
  ],
  [
    "heads that share keys, values and a turn",
    smallModel(VOCABULARY, {
      ...DENSE,
      attention: {
        kind: "mha",
        num_heads: 6,
        num_kv_heads: 2,
        d_head: 12,
        d_rope: 6,
        rope_base: 100,
        bias: false,
        dropout: 0.5,
      },
    }),
  ],
];

for (const [name, architecture] of CASES) {
  Deno.test(`Generator agrees with the forward pass at every position: ${name}`, async () => {
    await withModel(architecture, async (model, tensors) => {
      const expected = new ReferenceModel(architecture, tensors)
        .evaluate({ tokens: TOKENS, targets: TOKENS, length: TOKENS.length }).logits.data;
      const forward = await forwardLogits(model);
      assertNear(forward, expected, { tolerance: 2e-5, what: "the forward pass" });
      const row = (of: ArrayLike<number>, t: number) =>
        Array.from({ length: VOCABULARY }, (_, i) => of[t * VOCABULARY + i]!);
      using generator = await Generator.create(model, { capacity: TOKENS.length, chunk: 8 });
      const one = await fedLogits(generator, Array(TOKENS.length).fill(1));
      const mixed = await fedLogits(generator, [19, 1, 8, 2, 7]);
      assertEquals(one.length, TOKENS.length);
      for (const { position, logits } of [...one, ...mixed]) {
        const what = `logits at position ${position}`;
        assertNear(logits, row(expected, position), { tolerance: 2e-5, what });
        assertNear(logits, row(forward, position), { tolerance: 2e-5, what });
      }
      assertEquals(await fedLogits(generator, [19, 1, 8, 2, 7]), mixed);
      const way = { temperature: 2, top_k: 30, top_p: 0.9, min_p: 0.01, repetition_penalty: 1.2 };
      assertEquals(
        await continued(generator, way, [1, 9, 4]),
        await continued(generator, way, undefined),
      );
    });
  });
}

Deno.test("Generator computes with f16 weights", async () => {
  const architecture = smallModel(VOCABULARY, DENSE);
  await withModel(architecture, async (model, tensors) => {
    const expected = new ReferenceModel(architecture, tensors)
      .evaluate({ tokens: TOKENS, targets: TOKENS, length: TOKENS.length }).logits.data;
    using generator = await Generator.create(model, { capacity: 40 });
    const logits = await generator.feed(TOKENS);
    assertNear(logits, expected.subarray(36 * VOCABULARY), { tolerance: 2e-2, what: "logits" });
    assert(logits.some((x, i) => Math.abs(x - expected[36 * VOCABULARY + i]!) > 1e-5));
  }, { precision: "mixed" });
});

Deno.test({
  name: "Generator reads a prompt by matrix products, whatever the sequence before it left",
  // SwiftShader takes many times as long for a kernel as llvmpipe.
  ignore: compilesSlowly(),
  async fn() {
    const architecture = smallModel(VOCABULARY, DENSE);
    const last = VOCABULARY - 1;
    const prompt = TOKENS.map((token) => token % last);
    const spoil = (tensors: Map<string, Float64Array>) =>
      tensors.get("embed.weight")!.fill(NaN, last * architecture.config.d_model);
    await withModel(architecture, async (model, tensors) => {
      const expected = new ReferenceModel(architecture, tensors)
        .evaluate({ tokens: prompt, targets: prompt, length: prompt.length }).logits.data;
      using generator = await Generator.create(model, { capacity: 150, chunk: 50 });
      assert((await generator.feed(Array(100).fill(last))).every(Number.isNaN));
      generator.reset();
      const logits = await generator.feed(prompt);
      // The head is the embedding, so the spoilt token's own logit stays NaN.
      const wanted = expected.subarray((prompt.length - 1) * VOCABULARY).subarray(0, last);
      assertNear(logits.subarray(0, last), wanted, { tolerance: 2e-5, what: "logits" });
    }, { gpu: await openTestGpu({ software: false }), spoil });
  },
});

Deno.test("Generator refuses what does not fit", async () => {
  await withModel(smallModel(VOCABULARY, DENSE), async (model) => {
    using generator = await Generator.create(model, { capacity: 10, chunk: 4 });
    await generator.feed(TOKENS.subarray(0, 9));
    await assertRejects(
      () => generator.feed(TOKENS.subarray(0, 2)),
      CapacityError,
      "11 tokens do not fit the context of 10 tokens",
    );
    assertEquals(generator.position, 9);
    await generator.feed([1]);
    await assertRejects(
      () => generator.feed([50]),
      RangeError,
      "Token 50 is not in the vocabulary",
    );
    await assertRejects(() => generator.feed([]), RangeError, "no token to feed");
    await assertRejects(
      () => Generator.create(model, { capacity: 0 }),
      RangeError,
      "capacity is 0; expected a whole number from 1",
    );
  });
});

Deno.test("Generator.choose() tells that logits are not finite, and refuses what does not fit", async () => {
  const architecture = smallModel(VOCABULARY, {
    ...DENSE,
    trunk: { positions: "learned", max_positions: 37 },
  });
  const spoil = (tensors: Map<string, Float64Array>) => {
    const [name] = [...tensors.keys()].filter((name) => name.includes("position"));
    tensors.get(name!)![12 * architecture.config.d_model] = NaN;
  };
  await withModel(architecture, async (model) => {
    const sampling = new Sampling({}, 1);
    using generator = await Generator.create(model, { capacity: 20, chunk: 4 });
    const token = sampling.choose(await generator.feed(TOKENS.subarray(0, 10)));
    const choices = await generator.choose(token, sampling, 4);
    assertEquals(choices.map(({ logit }) => Number.isFinite(logit)), [true, true, false, false]);
    assertEquals(choices[2], { token: 0, logit: NaN });
    await assertRejects(
      () => generator.choose(1, sampling, 7),
      CapacityError,
      "21 tokens do not fit the context of 20 tokens",
    );
    await assertRejects(() => generator.choose(50, sampling, 1), RangeError, "Token 50 is not");
    await assertRejects(() => generator.choose(1, sampling, 0), RangeError, "0 tokens are to be");
    assertEquals(generator.position, 14);
    using traced = await Generator.create(model, { capacity: 20, onChoices: () => {} });
    await assertRejects(() => traced.choose(1, sampling, 1), Error, "one by one");
    /** Tokens of this model as letters, whatever they are. */
    const letters = {
      ...{ vocab_size: VOCABULARY, endoftext: 99, begin: [1] },
      encode: (text: string) => Uint32Array.from(text, () => 7),
      decodeBytes: (ids: ArrayLike<number>) => Uint8Array.from(ids, (id) => 65 + id % 26),
    } as unknown as Tokenizer;
    const texts: string[] = [];
    for (const tokens_at_once of [1, 16]) {
      const run = generateText(generator, letters, {
        ...{ prompt: "abcde", max_tokens: 14, seed: 2, tokens_at_once },
      });
      let text = "";
      await assertRejects(
        async () => {
          for await (const piece of run) text += piece;
        },
        NotFiniteError,
        "The logit of token 0 is NaN; expected finite numbers",
      );
      texts.push(text);
    }
    assertEquals(texts[0]!.length, 7);
    assertEquals(texts[1], texts[0]);
  }, { spoil });
});

Deno.test("InferenceModel.untrained() has the weights that training begins with", async () => {
  const gpu = await openTestGpu();
  const architecture = smallModel(VOCABULARY);
  const train = trainSchema.parse({
    steps: 1,
    sequence_length: 4,
    micro_batch: 1,
    learning_rate: { warmup_steps: 0 },
  });
  const trainer = await Trainer.create(gpu, { architecture, train, seed: 3 });
  try {
    using model = await InferenceModel.untrained(gpu, architecture, {
      seed: 3,
      precision: "mixed",
    });
    for (const { name } of model.weights.specs) {
      const [part] = model.weights.value(name).parts;
      assertEquals(await download(gpu, part!), await trainer.readState("value", name), name);
    }
    using generator = await Generator.create(model, { capacity: 8 });
    const weights = model.weights.memory.reduce((n, { bytes }) => n + bytes, 0);
    assert(generator.bytes > weights + generator.cacheBytes);
    assert((await generator.feed(TOKENS.subarray(0, 5))).every(Number.isFinite));
  } finally {
    trainer.destroy();
  }
});
