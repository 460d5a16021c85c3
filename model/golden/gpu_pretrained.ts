/**
 * Golden cases of published models on a GPU.
 *
 * @module
 */

import type { Gpu } from "../gpu/device.ts";
import { Tensor } from "../gpu/tensor.ts";
import { NO_TARGET } from "../ops/elementwise/cross_entropy.ts";
import { headLogits, headLoss } from "../trunk/head.ts";
import { recordForward } from "../trunk/network.ts";
import { weightSpecs } from "../trunk/parameters.ts";
import { type GoldenResults, input, type PretrainedCase } from "./golden.ts";
import { Bench, type Precision } from "./gpu_bench.ts";

/** A forward pass in evaluation. */
export async function pretrained(
  gpu: Gpu,
  golden: PretrainedCase,
  precision: Precision,
): Promise<GoldenResults> {
  const { architecture, batch, length, parameters } = golden;
  const { vocab_size } = architecture.config;
  const values = (name: string) => parameters.get(name)!;
  using b = new Bench(gpu, weightSpecs(architecture), { values, precision });
  const all = input(golden, "tokens").data;
  const last = (i: number) => i % length === length - 1;
  const following = Array.from(all, (_, i) => last(i) ? NO_TARGET : all[i + 1]!);
  const tokens = b.tensor("tokens", [all.length], all, "u32");
  const targets = b.tensor("targets", [all.length], following, "u32");
  const losses = b.tensor("losses", [all.length]);
  const results = await b.run({ batch, length, mode: "evaluate" }, (context) => {
    const forward = recordForward(context, architecture, { tokens });
    headLoss(context, { architecture, x: forward.x, targets, losses });
    const hidden = forward.layers.map((layer, l): [string, Tensor] => [
      `out.hidden.${l}`,
      layer.feedForward().pass.y,
    ]);
    const logits = headLogits(context, { architecture, x: forward.x });
    return { ...Object.fromEntries(hidden), losses, "out.logits": logits };
  });
  const padded = results.get("out.logits")!;
  const width = padded.length / all.length;
  const logits = Float32Array.from(
    { length: all.length * vocab_size },
    (_, i) => padded[Math.floor(i / vocab_size) * width + i % vocab_size]!,
  );
  const sum = Array.from(results.get("losses")!).reduce((total, loss) => total + loss, 0);
  return new Map([
    ...results,
    ["out.logits", logits],
    ["out.loss", [sum / (batch * (length - 1))]],
  ]);
}
