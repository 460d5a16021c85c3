import { assertAlmostEquals, assertEquals } from "@std/assert";
import { COUNT_MEANINGS } from "./count_keys.ts";
import { countAll } from "./counts.ts";

const counts = await countAll();

Deno.test("every count has a meaning, and every meaning a finite count", () => {
  assertEquals(Object.keys(counts), Object.keys(COUNT_MEANINGS));
  assertEquals(Object.entries(counts).filter(([, value]) => !Number.isFinite(value)), []);
});

Deno.test("the paper's sizes come to the counts that were made by hand", () => {
  assertEquals(counts["ethos.stored"], 743_979_008);
  assertEquals(counts["ethos.active"], 274_446_336);
  assertEquals(counts["ethos.latent_ratio"], 16);
  assertEquals(counts["ethos.scores"], 1024 / 262144);
  assertAlmostEquals(counts["ethos.law_at_end"], 8.88 - 0.418 * Math.log(4e9 / 32768), 1e-12);
  assertEquals(counts["ethos.codes_cached"], 50 * 2 ** 20 / 256 / 262144);
});

Deno.test("the sparse mixture's sizes come to the counts that were made by hand", () => {
  assertEquals(counts["moe.stored"], 158_623_744);
  assertEquals(counts["moe.active_layers"], 18_949_120);
  assertEquals(counts["moe.active_head"], 44_680_704);
  assertEquals(counts["moe.dense_stored"], 70_494_208);
  assertEquals(counts["moe.dense_tied"], 70_494_208 - 50257 * 512);
  assertAlmostEquals(counts["moe.flops"] / 1e9, 11.53, 0.01);
  assertAlmostEquals(counts["moe.flops"] / (1 - counts["moe.saving_model"]) / 1e9, 34.08, 0.01);
  assertAlmostEquals(counts["moe.flops_formula"] / 1e9, 8.05, 0.005);
  assertAlmostEquals(counts["moe.gain_formula"], 2.4, 0.05);
  assertAlmostEquals(counts["moe.gain_parameters"], 5.0, 0.05);
  assertAlmostEquals(counts["moe.gate_share"], 0.0025, 0.0006);
  assertEquals(Math.round(counts["moe.epoch_updates"]), 66_241);
  assertEquals(counts["moe.saving_dense"], 0);
  assertAlmostEquals(counts["moe.final_rate"], 0.98, 0.002);
});
