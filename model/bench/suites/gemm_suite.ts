/**
 * Matrix products: a large square, and the shapes that the model has.
 *
 * @module
 */

import { BYTES } from "../../gpu/tensor.ts";
import { LOGITS_ROWS } from "../../trunk/head.ts";
import { parameterSpecs } from "../../trunk/parameters.ts";
import { ceilingSizes, type Product, timeProduct } from "../measure/ceilings.ts";
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

/** The products of a model's matrices with the tokens of a micro-batch, one of each shape. */
function projections({ architecture, train }: SuiteContext): Projection[] {
  const { d_model, vocab_size } = architecture.config;
  const rows = tokensAtOnce(train);
  const byShape = new Map<string, Projection>();
  for (const { name, shape, role, decay } of parameterSpecs(architecture)) {
    const [inputs, outputs, ...more] = shape;
    // Tables are read by row, not multiplied with; experts' matrices are a suite of their own, and biases of experts no matrices.
    if (outputs === undefined || ["embedding", "latent", "experts"].includes(role)) continue;
    if (more.length > 0 || !decay) continue;
    // A gate of any number of columns is padded where it is used.
    if (outputs % 4 > 0) continue;
    const key = `${inputs}×${outputs}`;
    if (!byShape.has(key)) {
      byShape.set(key, {
        name: name.slice(name.lastIndexOf(".") + 1),
        rows,
        inputs: inputs!,
        outputs,
      });
    }
  }
  // The head reads the rows of its matrix as columns, padded to fours.
  const outputs = Math.ceil(vocab_size / 4) * 4;
  const head = { name: "head", rows: Math.min(rows, LOGITS_ROWS), inputs: d_model, outputs };
  return [...byShape.values(), head];
}
