/**
 * Golden cases of attention on a GPU.
 *
 * @module
 */

import { mhaBackward, mhaForward } from "../attention/mha/mha.ts";
import { mlaBackward, mlaForward } from "../attention/mla/mla.ts";
import type { Gpu } from "../gpu/device.ts";
import { recordNorm } from "../trunk/norm.ts";
import { weightSpecs } from "../trunk/parameters.ts";
import { type GoldenResults, type GptAttentionCase, input, type MlaCase } from "./golden.ts";
import { Bench, bench, named, OPERAND, type Precision } from "./gpu_workbench.ts";

/** Latent attention. */
export async function mla(
  gpu: Gpu,
  golden: MlaCase,
  precision: Precision,
): Promise<GoldenResults> {
  const { mla, batch, length } = golden;
  using b = bench(gpu, golden, { prefix: "layers.0.attn.", precision });
  const shape = [batch * length, golden.architecture.config.d_model];
  const x = b.tensor("x", shape, input(golden, "x").data, OPERAND[precision]);
  const g = b.tensor("g", shape, input(golden, "g").data);
  const residual = b.tensor("residual", shape);
  const results = await b.run({ batch, length, mode: "train" }, (context) => {
    const { y, saved } = mlaForward(context, "layers.0.attn", { x, residual, mla });
    return { "out.y": y, "grad.x": mlaBackward(context, "layers.0.attn", { dy: g, saved, mla }) };
  });
  return new Map([...results, ...named("grad.", await b.gradients("layers.0.attn."))]);
}

/** Layer norm and multi-head attention. */
export async function gptAttention(
  gpu: Gpu,
  golden: GptAttentionCase,
  precision: Precision,
): Promise<GoldenResults> {
  const { architecture, mha, batch, length } = golden;
  const [at, norm] = ["layers.0.attn", "layers.0.attn_norm"];
  /** A parameter's name in the file. */
  const inFile = (name: string) =>
    name.startsWith(`${norm}.`) ? `norm.${name.slice(norm.length + 1)}` : name.slice(at.length + 1);
  const specs = weightSpecs(architecture).filter(({ name }) => name.startsWith(at));
  const values = (name: string) => input(golden, inFile(name)).data;
  using b = new Bench(gpu, specs, { values, precision });
  const shape = [batch * length, architecture.config.d_model];
  const x = b.tensor("x", shape, input(golden, "x").data);
  const g = b.tensor("g", shape, input(golden, "g").data);
  const residual = b.tensor("residual", shape);
  const results = await b.run({ batch, length, mode: "train" }, (context) => {
    const normed = recordNorm(context, norm, { architecture, x });
    const { y, saved } = mhaForward(context, at, { x: normed.y, residual, mha });
    const dx = context.activation("dx", ...shape);
    normed.backward(mhaBackward(context, at, { dy: g, saved, mha }), dx, "none");
    return { "out.norm": normed.y, "out.y": y, "grad.x": dx };
  });
  const gradients = (await b.gradients("")).map(([name, value]) => [inFile(name), value] as const);
  return new Map([...results, ...named("grad.", gradients)]);
}
