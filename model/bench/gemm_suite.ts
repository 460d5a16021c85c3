/**
 * Matrix products: a large square, and the shapes that the model has.
 *
 * @module
 */

import { isSparse } from "../config.ts";
import { BYTES } from "../gpu/tensor.ts";
import { LOGITS_ROWS } from "../trunk/head.ts";
import { ceilingSizes, type Product, timeProduct } from "./ceilings.ts";
import { type BenchCase, type SuiteContext, tokensAtOnce } from "./suite.ts";

/** A product `x W` of a model: rows, inputs, outputs. */
interface Projection {
  readonly name: string;
  readonly rows: number;
  readonly inputs: number;
  readonly outputs: number;
}

/** The square product and each of the model's, forward (`nn`), back to its input (`nt`) and to its weight (`tn`), in f32 and f16. */
export function gemmSuite(context: SuiteContext): BenchCase[] {
  const { rows } = ceilingSizes(context.gpu);
  const square = (["nn", "nt", "tn"] as const).map((layout) => ({
    name: "square",
    layout,
    m: rows,
    n: rows,
    k: rows,
  }));
  const model = projections(context).flatMap(({ name, rows, inputs, outputs }) => [
    { name, layout: "nn" as const, m: rows, n: outputs, k: inputs },
    { name, layout: "nt" as const, m: rows, n: inputs, k: outputs },
    { name, layout: "tn" as const, m: inputs, n: outputs, k: rows },
  ]);
  return [...square, ...model].flatMap(({ name, ...product }) =>
    (["f32", "f16"] as const).map((dtype) => gemmCase(context, name, { ...product, dtype }))
  );
}

function gemmCase({ gpu, timing }: SuiteContext, name: string, product: Product): BenchCase {
  const { m, n, k, layout, dtype } = product;
  return {
    id: `gemm.${name}.${m}x${n}x${k}.${layout}.${dtype}`,
    suite: "gemm",
    params: { name, m, n, k, layout, dtype },
    measure: async () => ({
      timing: await timeProduct(gpu, product, timing),
      flops: 2 * m * n * k,
      bytes: BYTES[dtype] * (m * k + k * n) + BYTES.f32 * m * n,
    }),
  };
}

/** The products that take a model's time, one of a kind. */
function projections({ config, train }: SuiteContext): Projection[] {
  const { d_model, num_heads, q_lora_rank, kv_lora_rank, d_nope, d_rope, d_v } = config;
  const rows = tokensAtOnce(train);
  const list: Projection[] = [
    { name: "w_dq", rows, inputs: d_model, outputs: q_lora_rank },
    { name: "w_uq", rows, inputs: q_lora_rank, outputs: num_heads * (d_nope + d_rope) },
    { name: "w_dkv", rows, inputs: d_model, outputs: kv_lora_rank + d_rope },
    { name: "w_ukv", rows, inputs: kv_lora_rank, outputs: num_heads * (d_nope + d_v) },
    { name: "w_o", rows, inputs: num_heads * d_v, outputs: d_model },
    {
      name: "head",
      rows: Math.min(rows, LOGITS_ROWS),
      inputs: d_model,
      // The head reads the embedding's rows as columns, and pads none of them here.
      outputs: Math.ceil(config.vocab_size / 4) * 4,
    },
  ];
  const layers = Array.from({ length: config.num_layers }, (_, i) => isSparse(config, i));
  if (layers.includes(false)) {
    list.push(
      { name: "ffn_up", rows, inputs: d_model, outputs: config.d_ffn },
      { name: "ffn_down", rows, inputs: config.d_ffn, outputs: d_model },
    );
  }
  if (layers.includes(true)) {
    const { routing_heads, d_query, num_experts, d_latent, d_hidden } = config;
    list.push(
      { name: "router", rows, inputs: d_model, outputs: routing_heads * d_query },
      { name: "w_u", rows, inputs: d_model, outputs: d_hidden },
      { name: "generate", rows: num_experts, inputs: d_latent, outputs: d_hidden },
    );
  }
  return list;
}
