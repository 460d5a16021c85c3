import { assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { BEAM, DENSE, PEER } from "../../testing.ts";
import { compilesSlowly, openTestGpu } from "../../gpu/testing.ts";
import { assertNear } from "../../ops/testing.ts";
import { ReferenceModel } from "../../reference/model.ts";
import type { Architecture } from "../../trunk/architecture.ts";
import { CapacityError, Generator } from "../generator.ts";
import { noisyTensors, smallModel, writeModelFile } from "../inference_testing.ts";
import type { InferenceModel } from "../model.ts";
import { openInferenceModel } from "../open.ts";
import { Sampling } from "../sampling.ts";
import { BatchGenerator } from "./batch_generator.ts";

const VOCABULARY = 50;
/** Sequences of different lengths: what of each is its prompt, and all of it. */
const SEQUENCES = [[19, 31], [1, 13], [8, 20], [30, 42], [3, 15]].map(([prompt, length], s) => ({
  prompt: prompt!,
  tokens: Uint32Array.from({ length: length! }, (_, i) => (i * i * 7 + (s + 3) * i + 11 * s) % 50),
}));
const STEPS = 12;

/** Works with an opened file of a model of noise. */
async function withModel(
  architecture: Architecture,
  work: (model: InferenceModel, tensors: Map<string, Float64Array>) => Promise<void>,
  options: { precision?: "f32" | "mixed"; software?: boolean } = {},
): Promise<void> {
  const { precision = "f32", ...device } = options;
  const folder = await Deno.makeTempDir();
  try {
    const path = join(folder, "model.safetensors");
    const tensors = noisyTensors(architecture, 5);
    await writeModelFile(path, architecture, tensors);
    using model = await openInferenceModel(await openTestGpu(device), path, { precision });
    await work(model, tensors);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Logits after each token behind the prompt, sequence by sequence, from one generator. */
async function alone(generator: Generator): Promise<Float32Array[][]> {
  const found = [];
  for (const { prompt, tokens } of SEQUENCES) {
    generator.reset();
    await generator.feed(tokens.subarray(0, prompt));
    const logits = [];
    for (const token of tokens.subarray(prompt)) logits.push(await generator.feed([token]));
    found.push(logits);
  }
  return found;
}

/** The same from a batch. */
async function together(batch: BatchGenerator): Promise<Float32Array[][]> {
  const found: Float32Array[][] = SEQUENCES.map(() => []);
  for (const [i, { prompt, tokens }] of SEQUENCES.entries()) {
    await batch.read(tokens.subarray(0, prompt), [i]);
  }
  for (let step = 0; step < STEPS; step++) {
    const logits = await batch.feed(SEQUENCES.map(({ prompt, tokens }) => tokens[prompt + step]!));
    logits.forEach((row, i) => found[i]!.push(row!));
  }
  return found;
}

const CASES: readonly [name: string, architecture: Architecture][] = [
  ["generated experts", smallModel(VOCABULARY)],
  ["experts behind beams", smallModel(VOCABULARY, { ffn: { ...BEAM, d_context: 8 } })],
  ["a dense model", smallModel(VOCABULARY, DENSE)],
  ["stored experts", smallModel(VOCABULARY, { ffn: PEER })],
  ["switch", smallModel(VOCABULARY, { ffn: { kind: "switch", num_experts: 5, d_expert: 20 } })],
  [
    "topk_moe",
    smallModel(VOCABULARY, { ffn: { kind: "topk_moe", num_experts: 6, top_k: 3, d_expert: 20 } }),
  ],
  [
    "multi-head attention and learned positions",
    smallModel(VOCABULARY, {
      ...DENSE,
      attention: { kind: "mha", num_heads: 6 },
      trunk: { norm: "layer", positions: "learned", max_positions: 42 },
    }),
  ],
  [
    "heads that share keys, values and a turn",
    smallModel(VOCABULARY, {
      ...DENSE,
      attention: { kind: "mha", num_heads: 6, num_kv_heads: 2, d_head: 12, d_rope: 6 },
    }),
  ],
  // Where four heads read the same keys and values, a workgroup takes them at once.
  [
    "heads that share a latent by fours",
    smallModel(VOCABULARY, {
      ...DENSE,
      attention: {
        kind: "mla",
        num_heads: 8,
        q_lora_rank: 20,
        kv_lora_rank: 12,
        d_nope: 12,
        d_rope: 8,
        d_v: 20,
      },
    }),
  ],
  [
    "heads that share keys and values by fours",
    smallModel(VOCABULARY, {
      ...DENSE,
      attention: { kind: "mha", num_heads: 8, num_kv_heads: 2, d_head: 12, d_rope: 6 },
    }),
  ],
];

for (const [name, architecture] of CASES) {
  Deno.test(`BatchGenerator agrees with the reference and with sequences alone: ${name}`, async () => {
    await withModel(architecture, async (model, tensors) => {
      const reference = new ReferenceModel(architecture, tensors);
      using generator = await Generator.create(model, { capacity: 42, chunk: 8 });
      const single = await alone(generator);
      using batch = await BatchGenerator.create(generator, { sequences: SEQUENCES.length });
      const found = await together(batch);
      for (const [s, { prompt, tokens }] of SEQUENCES.entries()) {
        const { data } = reference.evaluate({ tokens, targets: tokens, length: tokens.length })
          .logits;
        for (let step = 0; step < STEPS; step++) {
          const at = prompt + step;
          const what = `logits of sequence ${s} at position ${at}`;
          const expected = data.subarray(at * VOCABULARY, (at + 1) * VOCABULARY);
          assertNear(found[s]![step]!, expected, { tolerance: 2e-5, what });
          assertNear(found[s]![step]!, single[s]![step]!, { tolerance: 2e-5, what });
        }
      }
      // Behind beams a GPU's products have other kernels for many rows.
      if (model.gpu.capabilities.software) assertEquals(found, single);
      assertEquals(await together(batch), found);
    });
  });
}

for (const software of [true, false]) {
  Deno.test({
    name: `BatchGenerator computes with f16 weights, software ${software}`,
    ignore: !software && compilesSlowly(),
    async fn() {
      await withModel(smallModel(VOCABULARY, DENSE), async (model) => {
        using generator = await Generator.create(model, { capacity: 42 });
        const single = await alone(generator);
        using batch = await BatchGenerator.create(generator, { sequences: SEQUENCES.length });
        const found = await together(batch);
        found.forEach((rows, s) =>
          rows.forEach((logits, step) => {
            const what = `logits of sequence ${s}, step ${step}`;
            assertNear(logits, single[s]![step]!, { tolerance: 5e-3, what });
          })
        );
        if (software) assertEquals(found, single);
      }, { precision: "mixed", software });
    },
  });
}

Deno.test("BatchGenerator.choose() chooses for each sequence what it would choose alone, whatever the others do", async () => {
  const ways = [
    { temperature: 2, top_k: 30, repetition_penalty: 1.2 },
    { temperature: 0 },
    { temperature: 1.5, top_p: 0.9, min_p: 0.01 },
    { temperature: 3 },
  ];
  await withModel(smallModel(VOCABULARY), async (model) => {
    using generator = await Generator.create(model, { capacity: 42, chunk: 8 });
    /** Thirteen tokens of a sequence, of which the device chooses all but the first. */
    const expected = [];
    const sequences = SEQUENCES.slice(0, ways.length);
    const prompts = sequences.map(({ prompt, tokens }) => [...tokens.subarray(0, prompt)]);
    for (const [i, prompt] of prompts.entries()) {
      generator.reset();
      const sampling = new Sampling(ways[i]!, i);
      sampling.note(prompt);
      const tokens = [sampling.choose(await generator.feed(prompt))];
      for (const count of [8, 4]) {
        const made = await generator.choose(tokens.at(-1)!, sampling, count);
        tokens.push(...made.map(({ token }) => token));
      }
      expected.push(tokens);
    }
    using batch = await BatchGenerator.create(generator, { sequences: ways.length });
    const samplings = ways.map((way, i) => new Sampling(way, i));
    const texts: number[][] = [];
    for (const [i, prompt] of prompts.entries()) {
      const sampling = samplings[i]!;
      sampling.note(prompt);
      texts.push([sampling.choose(await batch.read(prompt, [i]))]);
    }
    const next = (ended: number) =>
      texts.map((text, i) =>
        i === ended ? undefined : { token: text.at(-1)!, sampling: samplings[i]! }
      );
    (await batch.choose(next(-1), 8)).forEach((made, i) =>
      texts[i]!.push(...made.map(({ token }) => token))
    );
    assertEquals(texts, expected.map((text) => text.slice(0, 9)));
    // One ends, another goes on in its place.
    const rest = await batch.choose(next(1), 4);
    assertEquals(rest.map(({ length }) => length), [4, 0, 4, 4]);
    assertEquals(batch.position(1), 0);
    for (const [i, made] of rest.entries()) {
      if (i === 1) continue;
      assertEquals(made.map(({ token }) => token), expected[i]!.slice(9));
    }
    const sampling = new Sampling(ways[0]!, 0);
    sampling.note(prompts[0]!);
    const token = sampling.choose(await batch.read(prompts[0]!, [1]));
    const [, again] = await batch.choose([undefined, { token, sampling }, undefined, undefined], 8);
    assertEquals([token, ...again!.map(({ token }) => token)], expected[0]!.slice(0, 9));
  });
});

Deno.test("BatchGenerator reads a prompt once for several sequences, and refuses what does not fit", async () => {
  await withModel(smallModel(VOCABULARY, DENSE), async (model) => {
    using generator = await Generator.create(model, { capacity: 10, chunk: 4 });
    using batch = await BatchGenerator.create(generator, { sequences: 3 });
    const { tokens } = SEQUENCES[0]!;
    await batch.read(tokens.subarray(0, 9), [0, 2]);
    assertEquals([0, 1, 2].map((s) => batch.position(s)), [9, 0, 9]);
    const [first, second, third] = await batch.feed([7, undefined, 7]);
    assertEquals(first, third);
    assertEquals(second, undefined);
    await assertRejects(
      () => batch.feed([undefined, undefined, 1]),
      CapacityError,
      "11 tokens do not fit the context of 10 tokens",
    );
    assertEquals(batch.position(0), 10);
    await assertRejects(() => batch.feed([1, 2]), RangeError, "2 tokens were given to 3 sequences");
    await assertRejects(
      () => batch.feed([50, undefined, undefined]),
      RangeError,
      "Token 50 is not in the vocabulary of 50 tokens",
    );
    await assertRejects(
      () => BatchGenerator.create(generator, { sequences: 0 }),
      RangeError,
      "A batch of 0 sequences",
    );
    using traced = await Generator.create(model, { capacity: 10, onChoices: () => {} });
    await assertRejects(() => BatchGenerator.create(traced, { sequences: 2 }), Error, "one by one");
  });
});
