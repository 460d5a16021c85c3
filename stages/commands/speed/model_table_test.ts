import { assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import type { BenchEntry } from "../../../model/bench/suites/suite.ts";
import { architectureOf } from "../../../model/config.ts";
import { joinedExperts } from "../../../model/equal_size.ts";
import { tinyModel } from "../../../model/training/trainer_testing.ts";
import { UserError } from "../../../pipeline/errors.ts";
import { denseBeside } from "./bench.ts";
import { modelCounts, type ModelLoss, renderComparison, sideOf } from "./model_table.ts";

const sparse = tinyModel({ ffn: { kind: "topk_moe", num_experts: 5, d_expert: 12 } });
const dense = architectureOf(joinedExperts(sparse.config)!);

const entry = (model: string, pass: string, more: Partial<BenchEntry>): BenchEntry => ({
  id: `model.${model}.${pass}`,
  suite: "model",
  params: { model, pass, tokens: 4 },
  median: 1,
  min: 1,
  max: 1,
  repeats: 1,
  ...more,
});

Deno.test("the table has both models, what was counted apart from what was measured", () => {
  const counts = { base: modelCounts(sparse), dense: modelCounts(dense) };
  const loss = (model: "base" | "dense", nats: number): ModelLoss => ({
    model,
    checkpoint: `${model} ${nats}`,
    tokens: 100,
    nats,
    bits_per_byte: null,
  });
  const losses = [loss("base", 2), loss("base", 3), loss("dense", 2)];
  const text = renderComparison({ counts, losses }, [
    entry("base", "forward", { flops: 3e9, median: 0.002 }),
    entry("dense", "forward", { flops: 2e9, median: 0.001 }),
    entry("base", "decode", { tokens_per_second: 50 }),
  ]);
  const [counted, measured] = text.split("\n\n");
  assertMatch(counted!, /^counted +topk_moe +dense +ratio\n/);
  const count = (n: number) => n.toLocaleString("en-GB");
  assertStringIncludes(counted!, count(counts.base.stored));
  assertStringIncludes(counted!, count(counts.dense.active.layers));
  assertMatch(counted!, /forward 4×1, dispatched +3\.00 GFLOP +2\.00 GFLOP +× 1\.500/);
  assertMatch(measured!, /forward 4×1 +2\.00 ms +1\.00 ms +× 2\.000/);
  assertMatch(measured!, /decoding +50 tokens\/s +– +–/);
  // The mean over the seeds.
  assertMatch(measured!, /held-out loss, nats \(3 models\) +2\.5000 +2\.0000 +× 1\.250/);
  // A quantity that neither side has is left out.
  assertEquals(/bits a byte|prefill/.test(text), false);
  assertMatch(
    renderComparison({ counts: { base: counts.base }, losses: [] }, []),
    /^counted +topk/,
  );
});

Deno.test("a checkpoint belongs to the model or to its dense equivalent", () => {
  const sides = { base: sparse.config, dense: denseBeside(sparse)!.config };
  assertEquals(sides.dense, dense.config);
  assertEquals(sideOf("a", structuredClone(sparse.config), sides), "base");
  assertEquals(sideOf("a", structuredClone(dense.config), sides), "dense");
  const unused = { ...dense.config, leading_dense: { num_layers: 0, d_ffn: 8 } };
  assertEquals(sideOf("a", unused, sides), "dense");
  const other = { ...sparse.config, vocab_size: 7 };
  assertThrows(() => sideOf("other", other, sides), UserError, "--checkpoint is other, a model");
  assertEquals(denseBeside(dense), undefined);
});
