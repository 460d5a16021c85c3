/**
 * Attention at a small model's sizes: `deno bench -A model/ops/attention/attention_bench.ts`.
 *
 * @module
 */

import { openGpu } from "../../gpu/open.ts";
import { buildPlans } from "../../gpu/build.ts";
import { Plan } from "../../gpu/plan.ts";
import { attentionBackward, attentionForward } from "./attention.ts";
import { Inputs, noise } from "../testing.ts";

const gpu = await openGpu();
const inputs = new Inputs(gpu);

for (
  const sizes of [
    { batch: 8, length: 128, heads: 4, d_nope: 16, d_rope: 16, d_v: 16 },
    { batch: 1, length: 1024, heads: 4, d_nope: 32, d_rope: 32, d_v: 32 },
  ]
) {
  const { batch, length, heads, d_nope, d_rope, d_v } = sizes;
  const tokens = batch * length;
  const random = (name: string, width: number) =>
    inputs.tensor(name, [tokens, width], { values: noise(tokens * width, width) });
  const operands = {
    sizes,
    q: random("q", heads * (d_nope + d_rope)),
    kv: random("kv", heads * (d_nope + d_v)),
    kr: random("kr", d_rope),
    o: inputs.tensor("o", [tokens, heads * d_v]),
    log_sum: inputs.tensor("log_sum", [heads, tokens]),
  };
  const forward = new Plan(gpu, "forward");
  attentionForward(forward, "attention", operands);
  const backward = new Plan(gpu, "backward");
  attentionBackward(backward, "attention", {
    ...operands,
    d_o: random("d_o", heads * d_v),
    d_q: inputs.tensor("d_q", [tokens, heads * (d_nope + d_rope)]),
    d_kv: inputs.tensor("d_kv", [tokens, heads * (d_nope + d_v)]),
    d_kr: inputs.tensor("d_kr", [tokens, heads * d_rope]),
  });
  const { plans } = await buildPlans(gpu, [forward, backward]);
  for (const built of plans) {
    const flops = built.plan.steps.reduce(
      (sum, step) => sum + (step.kind === "dispatch" ? step.call.flops : 0),
      0,
    );
    const shape = `${batch} × ${length}, ${heads} heads of ${d_nope} + ${d_rope} and ${d_v}`;
    Deno.bench(
      `attention ${built.plan.label}, ${shape}: ${(flops / 1e6).toFixed(0)} MFLOP`,
      async () => {
        built.run();
        await gpu.device.queue.onSubmittedWorkDone();
      },
    );
  }
}
