/**
 * Golden cases of published models on a GPU.
 *
 * @module
 */

import type { Gpu } from "../../gpu/device.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { LayerContext } from "../../layer/context.ts";
import { headLogits, headLoss } from "../../trunk/head.ts";
import { recordForward } from "../../trunk/network.ts";
import { weightSpecs } from "../../trunk/parameters.ts";
import type { ExpandedCase } from "./expanded.ts";
import { type GoldenResults, input, type PretrainedCase } from "../golden.ts";
import { Bench, type Precision } from "../gpu_workbench.ts";
import { nextTokens } from "./stored.ts";

/** A forward pass in evaluation. */
export async function pretrained(
  gpu: Gpu,
  golden: PretrainedCase,
  precision: Precision,
): Promise<GoldenResults> {
  const values = (name: string) => golden.parameters.get(name)!;
  using b = new Bench(gpu, weightSpecs(golden.architecture), { values, precision });
  return await predict(b, golden);
}

/**
 * Logits of a case's tokens, the mean loss of the next tokens, and the residual stream after each layer.
 *
 * @param layers Records other layers than the architecture's, and returns the residual stream after the last one.
 */
export async function predict(
  b: Bench,
  golden: PretrainedCase | ExpandedCase,
  layers?: (context: LayerContext, tokens: Tensor) => Tensor,
): Promise<Map<string, ArrayLike<number>>> {
  const { architecture, batch, length } = golden;
  const { vocab_size } = architecture.config;
  const all = input(golden, "tokens").data;
  const tokens = b.tensor("tokens", [all.length], all, "u32");
  const targets = b.tensor("targets", [all.length], nextTokens(all, length), "u32");
  const losses = b.tensor("losses", [all.length]);
  const results = await b.run({ batch, length, mode: "evaluate" }, (context) => {
    const hidden: [string, Tensor][] = [];
    let x = layers?.(context, tokens);
    if (!x) {
      const forward = recordForward(context, architecture, { tokens });
      forward.layers.forEach((layer, l) =>
        hidden.push([`out.hidden.${l}`, layer.feedForward().pass.y])
      );
      x = forward.x;
    }
    headLoss(context, { architecture, x, targets, losses });
    const logits = headLogits(context, { architecture, x });
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
