import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { perplexityOf } from "../../model/inference/evaluator.ts";
import { TokenSplit } from "../../model/text/shard.ts";
import type { JsonValue, NodeOutput } from "../../pipeline/stage.ts";
import { SMALL_TRAINING, writeDataset } from "../commands/model/checkpoint_testing.ts";
import { evaluate } from "./evaluate.ts";
import { describeEvaluation, hottestExperts, routingHistogram } from "./evaluation.ts";
import { evaluationSchema } from "./result.ts";
import { runStage } from "../testing.ts";
import { train } from "../train/train.ts";

Deno.test("evaluate measures what training measured, and publishes the use of experts", async (t) => {
  const dir = await Deno.makeTempDir();
  const dataset = await writeDataset(join(dir, "dataset"));
  const trained = await runStage(train, {
    params: SMALL_TRAINING,
    inputs: { dataset: [dataset] },
    dir: join(dir, "train"),
  });
  const measure = (params: Record<string, string | number>, inputs = {}) =>
    runStage(evaluate, {
      params,
      inputs: { train: [trained.output], dataset: [dataset], ...inputs },
      dir: join(dir, "evaluate"),
    });

  await t.step("the same bits as the last evaluation of the training", async () => {
    const run = await measure({ tokens: 500, micro_batch: 4 });
    const evaluation = evaluationSchema.parse(run.json.evaluation);
    const { last } = trained.json.summary as unknown as {
      last: { nats: number; bits_per_byte: number };
    };
    assertEquals(evaluation.nats, last.nats);
    assertEquals(evaluation.bits_per_byte, last.bits_per_byte);
    assertEquals(evaluation.perplexity, Math.exp(last.nats));
    assertEquals([evaluation.split, evaluation.tokens, evaluation.bytes], ["validation", 500, 500]);
    const metric = (name: string) => trained.metrics.findLast((row) => row.name === name)?.value;
    assertEquals(evaluation.expert_usage, metric("expert_usage"));
    assertEquals(evaluation.expert_unevenness, metric("expert_unevenness"));
    const [layer] = evaluation.layers;
    assertEquals(evaluation.layers.length, 1);
    assertEquals(layer!.layer, 1);
    const { routing_histogram: counts } = layer!;
    assertEquals(counts.length, 64);
    // Two heads keep two experts each, for each of the predictions.
    assertEquals(counts.reduce((a, b) => a + b), 500 * 4);
    assertEquals(layer!.experts_per_token, 4);
    assertEquals(layer!.experts, 64);
    const shares = counts.slice(0, 8).map((count) => count / 2000);
    assertEquals(layer!.hottest?.map(({ share }) => share), shares);
    assertEquals(new Set(layer!.hottest?.map(({ expert }) => expert)).size, 8);
    assertEquals(counts, counts.toSorted((a, b) => b - a));
    assertEquals(layer!.expert_usage, counts.filter((count) => count > 0).length / 64);
    const speed = run.metrics.find(({ name }) => name === "tokens_per_second");
    assert(speed!.measured && speed!.value! > 0);
    assertEquals(run.metrics.find(({ name }) => name === "nats")?.value, last.nats);
    assertEquals(run.progress.at(-1)?.done, 500);
    assertEquals((await measure({ tokens: 500, micro_batch: 4 })).json, run.json);
  });

  await t.step("other batches, another split, all of it", async () => {
    const whole = evaluationSchema.parse((await measure({ micro_batch: 3 })).json.evaluation);
    using split = TokenSplit.open([dataset.file("tokens", "validation/00000.tokens")]);
    assertEquals(whole.tokens, split.length - 1);
    assertEquals(whole.bytes, split.length - 2);
    const seen = await measure({ split: "train", tokens: 200, micro_batch: 8 });
    assertEquals(evaluationSchema.parse(seen.json.evaluation).split, "train");
    const again = await measure({ split: "train", tokens: 200, micro_batch: 1 });
    const nats = (run: typeof seen) => evaluationSchema.parse(run.json.evaluation).nats;
    assertAlmostEquals(nats(seen), nats(again), 1e-5);
  });

  await t.step("says what is missing", async () => {
    await assertRejects(
      () => measure({}, { train: [] }),
      Error,
      "evaluate has no input named train",
    );
    const other: NodeOutput = { ...trained.output, params: { train: {} } };
    await assertRejects(() => measure({}, { train: [other] }), Error, "sequence_length");
  });
  await Deno.remove(dir, { recursive: true });
});

Deno.test("a perplexity beyond float64 is null, and so are bits per byte of no bytes", () => {
  const describe = (nats: number, bytes: number) => {
    const result = { tokens: 2, bytes, total_nats: 2 * nats, nats, usage: [] };
    const evaluation = describeEvaluation({ ...result, perplexity: perplexityOf(nats) });
    assertEquals(evaluationSchema.parse({ split: "validation", ...evaluation }).nats, nats);
    return [evaluation.perplexity, evaluation.bits_per_byte];
  };
  assertEquals(describe(709, 2), [Math.exp(709), 709 / Math.LN2]);
  assertEquals(describe(709.8, 2), [null, 709.8 / Math.LN2]);
  assertEquals(describe(1, 0), [Math.E, null]);
});

Deno.test("evaluate takes single documents as training did", async () => {
  const dir = await Deno.makeTempDir();
  // Of the last document of the 700 bytes that are held out 7 bytes are left.
  const dataset = await writeDataset(join(dir, "dataset"), { document: 11 });
  const params = structuredClone(SMALL_TRAINING) as Record<string, Record<string, JsonValue>>;
  params["train"]!["documents"] = "single";
  const trained = await runStage(train, {
    params,
    inputs: { dataset: [dataset] },
    dir: join(dir, "train"),
  });
  const summary = trained.json.summary as unknown as { tokens: number; last: { nats: number } };
  // Four updates of four documents of 11 predictions each, in sequences of 16.
  assertEquals(summary.tokens, 4 * 4 * 11);
  const run = await runStage(evaluate, {
    params: { tokens: 500, micro_batch: 4 },
    inputs: { train: [trained.output], dataset: [dataset] },
    dir: join(dir, "evaluate"),
  });
  const evaluation = evaluationSchema.parse(run.json.evaluation);
  assertEquals(evaluation.nats, summary.last.nats);
  // 45 documents of 11 predictions, ten of which are text, and five of the next.
  assertEquals([evaluation.tokens, evaluation.bytes], [500, 455]);
  const [layer] = evaluation.layers;
  assertEquals(layer!.routing_histogram.reduce((a, b) => a + b), 500 * 4);
  await Deno.remove(dir, { recursive: true });
});

Deno.test("routingHistogram() sorts counts, and keeps shares when it sums them up", () => {
  assertEquals(routingHistogram(Uint32Array.of(0, 5, 2, 1)), [5, 2, 1, 0]);
  const counts = Uint32Array.from({ length: 128 ** 2 }, (_, i) => (i * 7919) % 1000);
  const histogram = routingHistogram(counts);
  assertEquals(histogram.length, 4096);
  const sum = (of: Iterable<number>) => Iterator.from(of).reduce((a, b) => a + b);
  assertEquals(4 * sum(histogram), sum(counts));
  assertEquals(4 * sum(histogram.slice(0, 100)), sum(counts.toSorted().reverse().slice(0, 400)));
});

Deno.test("hottestExperts() names the most used ones, of equals the lower number, and no unused one", () => {
  const counts = Uint32Array.of(1, 0, 5, 2, 5, 2, 1);
  assertEquals(hottestExperts(counts, 3), [
    { expert: 2, share: 5 / 16 },
    { expert: 4, share: 5 / 16 },
    { expert: 3, share: 2 / 16 },
  ]);
  assertEquals(hottestExperts(counts, 8).map(({ expert }) => expert), [2, 4, 3, 5, 0, 6]);
  assertEquals(hottestExperts(new Uint32Array(4), 8), []);
});

/** Sections of `model.ffn` with experts, how many are counted, and how many of them a token keeps. */
const KINDS: readonly [name: string, ffn: JsonValue, experts: number, kept: number][] = [
  [
    "ethos behind beams",
    {
      kind: "ethos",
      router: "beam",
      routing_heads: 2,
      top_k: 2,
      axes: 3,
      axis_query: 4,
      axis_size: 8,
      axis_candidates: 4,
      beam_width: 4,
      d_latent: 8,
      d_hidden: 8,
      // Rows of the three axes, of which an expert is one each.
    },
    24,
    12,
  ],
  [
    "peer",
    { kind: "peer", num_experts: 64, routing_heads: 2, top_k: 2, d_query: 8 },
    64,
    4,
  ],
  ["switch", { kind: "switch", num_experts: 4, d_expert: 16 }, 4, 1],
  ["topk_moe", { kind: "topk_moe", num_experts: 4, top_k: 2, d_expert: 16 }, 4, 2],
];

Deno.test("evaluate publishes the use of every kind of expert", async (t) => {
  const dir = await Deno.makeTempDir();
  const dataset = await writeDataset(join(dir, "dataset"));
  for (const [name, ffn, experts, kept] of KINDS) {
    await t.step(name, async () => {
      const { model, train: section, seed } = SMALL_TRAINING as Record<string, object>;
      const params = { model: { ...model, ffn }, train: { ...section, steps: 2 }, seed };
      const trained = await runStage(train, {
        params: params as JsonValue,
        inputs: { dataset: [dataset] },
        dir: join(dir, name),
      });
      const { json } = await runStage(evaluate, {
        params: { tokens: 300, micro_batch: 4 },
        inputs: { train: [trained.output], dataset: [dataset] },
        dir: join(dir, "evaluate"),
      });
      const { layers, expert_gini } = evaluationSchema.parse(json.evaluation);
      const [layer] = layers;
      assertEquals([layers.length, layer!.experts, layer!.experts_per_token], [1, experts, kept]);
      assertEquals(layer!.routing_histogram.reduce((a, b) => a + b), 300 * kept);
      const [hottest] = layer!.hottest!;
      assertAlmostEquals(hottest!.share, layer!.routing_histogram[0]! / (300 * kept), 1e-12);
      assert(hottest!.expert >= 0 && hottest!.expert < experts);
      assertEquals(layer!.expert_gini, expert_gini);
    });
  }
  await Deno.remove(dir, { recursive: true });
});
