import { assert, assertEquals } from "@std/assert";
import { changedModel, PEER } from "../../testing.ts";
import { median } from "./timing.ts";
import { timeExecution, timeLayer } from "./layer.ts";
import { openTestGpu } from "../../gpu/testing.ts";

const architecture = changedModel({
  vocab_size: 100,
  d_model: 64,
  num_layers: 1,
  leading_dense: { num_layers: 0 },
  attention: { kind: "mla" },
  ffn: {
    kind: "ethos",
    num_experts: 64,
    routing_heads: 2,
    top_k: 4,
    d_query: 16,
    d_latent: 8,
    d_hidden: 16,
  },
}, {});

Deno.test("median() of odd and even counts", () => {
  assertEquals(median([3, 1, 2]), 2);
  assertEquals(median([4, 1, 3, 2]), 2.5);
});

Deno.test("timeExecution() times every execution in every precision, and sees naive's memory", async () => {
  const gpu = await openTestGpu();
  for (const precision of ["f32", "mixed"] as const) {
    const peaks = new Map<string, number>();
    for (const execution of ["naive", "materialized", "fused"] as const) {
      const timing = await timeExecution(gpu, {
        architecture,
        execution,
        tokens: 64,
        precision,
        warmup: 1,
        repetitions: 1,
      });
      assert(timing.forward_seconds > 0 && timing.forward_backward_seconds > 0);
      peaks.set(execution, timing.peak_bytes);
    }
    assert(peaks.get("naive")! > peaks.get("fused")!, precision);
  }
});

Deno.test("timeExecution() times stored experts in both executions", async () => {
  const gpu = await openTestGpu();
  const { config } = architecture;
  const stored = changedModel({ ...config, ffn: PEER }, {});
  for (const execution of ["naive", "fused"]) {
    const timing = await timeExecution(gpu, {
      architecture: stored,
      execution,
      tokens: 32,
      precision: "mixed",
      warmup: 1,
      repetitions: 1,
    });
    // Nothing has a row of d_model for each assignment.
    assert(timing.peak_bytes < 32 * 9 * 64 * 2 * 4, `${timing.peak_bytes} bytes`);
  }
});

Deno.test("timeLayer() times experts behind beams, each part of the layer", async () => {
  const gpu = await openTestGpu();
  const beams = changedModel(architecture.config, {
    ffn: {
      kind: "ethos",
      router: "beam",
      routing_heads: 2,
      top_k: 4,
      axes: 3,
      axis_query: 8,
      axis_size: 16,
      d_latent: 8,
      d_hidden: 16,
    },
  });
  const bench = beams.feedForward(0).bench!;
  assertEquals(bench.executions, ["naive", "fused"]);
  assertEquals(bench.kept, 8);
  for (const [key, values] of Object.entries(bench.scaling({ software: true }))) {
    for (const value of values) beams.withFfn({ [key]: value });
  }
  for (const part of ["layer", "experts", "router"] as const) {
    for (const execution of bench.executions) {
      const { forward, forward_backward } = await timeLayer(gpu, {
        architecture: beams,
        execution,
        tokens: 64,
        precision: "mixed",
        part,
        warmup: 1,
        repetitions: 1,
        minimum: 0.001,
      });
      assert(forward.min > 0 && forward.bytes < forward_backward.bytes, `${part} ${execution}`);
    }
  }
});

Deno.test("timeLayer() times the experts and the router apart, which take less memory than both", async () => {
  const gpu = await openTestGpu();
  const time = (part: "layer" | "experts" | "router") =>
    timeLayer(gpu, {
      architecture,
      execution: "fused",
      tokens: 64,
      precision: "mixed",
      part,
      warmup: 1,
      repetitions: 2,
      minimum: 0.001,
    });
  const layer = await time("layer");
  for (const part of ["experts", "router"] as const) {
    const { forward, forward_backward } = await time(part);
    assert(forward.min > 0 && forward.median <= forward.max && forward.repeats === 2);
    assert(forward.bytes < layer.forward.bytes, part);
    assert(forward.bytes < forward_backward.bytes, part);
  }
});
