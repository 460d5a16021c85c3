/**
 * Attention at the model's sizes, forward and backward.
 *
 * @module
 */

import { Plan } from "../../gpu/plan.ts";
import { attentionBackward, attentionForward } from "../../ops/attention/attention.ts";
import { Operands } from "../measure/ceilings.ts";
import type { BenchCase, Measured, SuiteContext } from "./suite.ts";
import { timePlan } from "../measure/timing.ts";

/** Forward and backward, with f32 and f16 operands. */
export function attentionSuite(context: SuiteContext): BenchCase[] {
  const { architecture, train } = context;
  const { heads, d_nope, d_rope, d_v } = architecture.attention.heads;
  const sizes = {
    batch: train.micro_batch,
    length: train.sequence_length,
    heads,
    d_nope,
    d_rope,
    d_v,
  };
  return (["f32", "f16"] as const).flatMap((dtype) =>
    (["forward", "backward"] as const).map((pass): BenchCase => ({
      id: `attention.${pass}.${sizes.batch}x${sizes.length}x${heads}.${dtype}`,
      suite: "attention",
      params: { pass, dtype, ...sizes },
      measure: () => measure(context, sizes, { pass, dtype }),
    }))
  );
}

async function measure(
  { gpu, timing }: SuiteContext,
  sizes: Parameters<typeof attentionForward>[2]["sizes"],
  options: { pass: "forward" | "backward"; dtype: "f32" | "f16" },
): Promise<Measured> {
  const { batch, length, heads, d_nope, d_rope, d_v } = sizes;
  const { pass, dtype } = options;
  const tokens = batch * length;
  const qk = d_nope + d_rope;
  using operands = new Operands(gpu);
  const forward = {
    sizes,
    q: operands.tensor("q", [tokens, heads * qk], dtype),
    kv: operands.tensor("kv", [tokens, heads * (d_nope + d_v)], dtype),
    o: operands.tensor("o", [tokens, heads * d_v], dtype),
    log_sum: operands.tensor("log_sum", [heads, tokens]),
  };
  const kr = d_rope > 0 ? operands.tensor("kr", [tokens, d_rope], dtype) : undefined;
  await operands.fill(forward.q, forward.kv, ...(kr ? [kr] : []));
  const plan = new Plan(gpu, "forward");
  attentionForward(plan, "attention", { ...forward, kr });
  const scores = batch * heads * length * (length + 1) / 2;
  if (pass === "forward") {
    return { timing: await timePlan(gpu, plan, timing), flops: 2 * scores * (qk + d_v), tokens };
  }
  // The backward pass reads what the forward pass gave.
  await timePlan(gpu, plan, { warmup: 1, repeats: 1, minimum: 0 });
  const d_o = operands.tensor("d_o", [tokens, heads * d_v], dtype);
  await operands.fill(d_o);
  const back = new Plan(gpu, "backward");
  attentionBackward(back, "attention", {
    ...forward,
    kr,
    d_o,
    d_q: operands.tensor("d_q", [tokens, heads * qk], dtype),
    d_kv: operands.tensor("d_kv", [tokens, heads * (d_nope + d_v)], dtype),
    d_kr: kr && operands.tensor("d_kr", [tokens, heads * d_rope], dtype),
  });
  const { bytes, ...time } = await timePlan(gpu, back, timing);
  return {
    timing: time,
    // Scores again, their gradient, and those of q, k and v: five products, whatever a kernel computes more than once.
    flops: 2 * scores * (3 * qk + 2 * d_v),
    tokens,
    peak_bytes: bytes,
  };
}
