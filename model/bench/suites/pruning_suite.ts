/**
 * The parts of pruning a linear layer: second moments of its inputs, the factor of their inverse, clusters of rows, and the sweep over columns; and products with its experts,
 * compressed and dense.
 *
 * @module
 */

import { runPlan } from "../../gpu/build.ts";
import { Plan } from "../../gpu/plan.ts";
import { upload } from "../../gpu/transfer.ts";
import { CompressedExperts } from "../../ops/compressed/experts.ts";
import { type Compression, type PrunedWeights, storedCounts } from "../../ops/compressed/forms.ts";
import { gemmGroupedCompressed } from "../../ops/compressed/gemm_grouped_compressed.ts";
import { packMatrix } from "../../ops/compressed/pack.ts";
import { gemmGrouped } from "../../ops/gemm/gemm_grouped.ts";
import { clusterMeans, nearestCentroid } from "../../ops/linalg/cluster.ts";
import { inverseCholesky } from "../../ops/linalg/cholesky.ts";
import { addToDiagonal, centreRows, readDiagonal, secondMoment } from "../../ops/linalg/moments.ts";
import { pruneMatrix, SWEEP_ROWS } from "../../ops/linalg/prune.ts";
import { levelsOf, prunedOf, PRUNING, type Pruning } from "../../sparse/options.ts";
import { uniform } from "../../sparse/routing/uniform.ts";
import { Operands, timeProduct } from "../measure/ceilings.ts";
import { randomGroups } from "./grouped_suite.ts";
import type { BenchCase, Measured, SuiteContext } from "./suite.ts";
import { timePlan } from "../measure/timing.ts";

/** Rows of calibration, inputs and outputs of a layer, clusters. */
interface Sizes {
  readonly rows: number;
  readonly inputs: number;
  readonly outputs: number;
  readonly clusters: number;
}

/** How a matrix is pruned, by the name of its case. */
const PRUNINGS: Readonly<Record<string, Pruning>> = {
  half: { ...PRUNING, sparsity: 0.5 },
  "2of4": { ...PRUNING, pattern: [2, 4] },
  "half.4bit": { ...PRUNING, sparsity: 0.5, bits: 4 },
};

/** How experts are compressed, by the name of their case. */
const COMPRESSIONS: Readonly<Record<string, Omit<Compression, "inputs">>> = {
  "2of4.f32": { pattern: [2, 4], values: { kind: "f32" } },
  "2of4.f16": { pattern: [2, 4], values: { kind: "f16" } },
  "2of4.4bit": { pattern: [2, 4], values: { kind: "levels", bits: 4, lowest: 0 } },
  "half.f32": { values: { kind: "f32" } },
  "half.f16": { values: { kind: "f16" } },
  "half.4bit": { values: { kind: "levels", bits: 4, lowest: 0 } },
};

/** One layer of about two thousand inputs; on a software adapter a small one. */
function sizesOf({ gpu }: SuiteContext): Sizes {
  return gpu.capabilities.software
    ? { rows: 256, inputs: 64, outputs: 64, clusters: 4 }
    : { rows: 16384, inputs: 2048, outputs: 8192, clusters: 16 };
}

/** Each part at the sizes of one layer. Bytes and operations are those that the plan was recorded with. */
export function pruningSuite(context: SuiteContext): BenchCase[] {
  const sizes = sizesOf(context);
  const { rows, inputs, outputs, clusters } = sizes;
  const of = (
    id: string,
    params: Readonly<Record<string, string | number>>,
    measure: () => Promise<Measured>,
  ): BenchCase => ({ id: `pruning.${id}`, suite: "pruning", params, measure });
  return [
    of(
      `moment.${rows}x${inputs}`,
      { name: "moment", rows, inputs },
      () => timeMoment(context, sizes),
    ),
    of(`factor.${inputs}`, { name: "factor", inputs }, () => timeFactor(context, sizes)),
    of(
      `clusters.${clusters}.${rows}x${inputs}`,
      { name: "clusters", rows, inputs, clusters },
      () => timeClusters(context, sizes),
    ),
    ...Object.entries(PRUNINGS).map(([name, pruning]) =>
      of(
        `matrix.${outputs}x${inputs}.${name}`,
        { name, outputs, inputs },
        () => timeMatrix(context, sizes, pruning),
      )
    ),
    ...productCases(context, sizes).map(([name, measure]) =>
      of(
        `product.${clusters}.${rows}x${inputs}x${outputs}.${name}`,
        { name: "product", form: name, rows, inputs, outputs, clusters },
        measure,
      )
    ),
  ];
}

/** Times a plan, with the work that its dispatches were recorded with, and its memory beside the bytes of operands that count. */
async function timed(
  { gpu, timing }: SuiteContext,
  plan: Plan,
  { held = 0 }: { held?: number } = {},
): Promise<Measured> {
  let [flops, bytes] = [0, 0];
  for (const step of plan.steps) {
    if (step.kind !== "dispatch") continue;
    flops += step.call.flops;
    bytes += step.call.bytes;
  }
  const timing_ = await timePlan(gpu, plan, timing);
  return { timing: timing_, flops, bytes, peak_bytes: held + timing_.bytes };
}

/** Centred rows and their second moment. */
async function timeMoment(context: SuiteContext, { rows, inputs }: Sizes): Promise<Measured> {
  using operands = new Operands(context.gpu);
  const x = operands.tensor("x", [rows, inputs]);
  const mean = operands.tensor("mean", [inputs]);
  const moment = operands.tensor("moment", [inputs, inputs]);
  await operands.fill(x, mean);
  const plan = new Plan(context.gpu, "moment");
  const y = plan.tensor("centred", x.shape);
  centreRows(plan, "centre", { x, mean, y });
  secondMoment(plan, "moment", { x: [y], columns: inputs, moment, scale: 1 / rows });
  return await timed(context, plan);
}

/** The damped Hessian of random rows and its factor. */
async function timeFactor(context: SuiteContext, { rows, inputs }: Sizes): Promise<Measured> {
  const { gpu } = context;
  using operands = new Operands(gpu);
  const square = [inputs, inputs];
  const x = operands.tensor("x", [rows, inputs]);
  const hessian = operands.tensor("hessian", square);
  const u = operands.tensor("factor", square);
  const failed = operands.tensor("failed", [4], "u32");
  await operands.fill(x);
  const first = new Plan(gpu, "hessian");
  secondMoment(first, "hessian", { x: [x], columns: inputs, moment: hessian, scale: 2 / rows });
  await runPlan(first);
  const plan = new Plan(gpu, "factor");
  const h = plan.tensor("damped", hessian.shape);
  const d = plan.tensor("diagonal", [inputs]);
  plan.copy(hessian, h);
  readDiagonal(plan, "diagonal", { h, d });
  addToDiagonal(plan, "damp", { h, d });
  inverseCholesky(plan, "factor", { h, u, failed });
  return await timed(context, plan);
}

/** One iteration of Lloyd's algorithm on rows as they are. */
async function timeClusters(
  context: SuiteContext,
  { rows, inputs, clusters }: Sizes,
): Promise<Measured> {
  using operands = new Operands(context.gpu);
  const on = {
    x: operands.tensor("x", [rows, inputs]),
    centroids: operands.tensor("centroids", [clusters, inputs]),
    label: operands.tensor("label", [rows], "u32"),
    distance: operands.tensor("distance", [rows]),
  };
  await operands.fill(on.x, on.centroids);
  const plan = new Plan(context.gpu, "clusters");
  nearestCentroid(plan, "nearest", on);
  clusterMeans(plan, "means", on);
  return await timed(context, plan);
}

/** The pruning of one matrix by a factor that is there. */
async function timeMatrix(
  context: SuiteContext,
  { inputs, outputs }: Sizes,
  { pattern, sparsity, bits, symmetric, block }: Pruning,
): Promise<Measured> {
  const { gpu, seed } = context;
  using operands = new Operands(gpu);
  const square = [inputs, inputs];
  const shape = [outputs, inputs];
  const [dense, w, live, losses] = [
    operands.tensor("dense", shape),
    operands.tensor("w", shape),
    operands.tensor("live", [inputs]),
    operands.tensor("losses", [Math.ceil(outputs / SWEEP_ROWS)]),
  ];
  const codes = operands.tensor("codes", shape, "u32");
  const u = operands.tensor("u", square);
  await operands.fill(dense);
  upload(gpu, live, new Float32Array(inputs).fill(1));
  // Upper triangular, with errors that reach later columns as little as those of inputs that have little to do with each other.
  const factor = (row: number, column: number) =>
    row === column ? 1 : row < column ? 0.01 * uniform(seed, row * inputs + column) : 0;
  upload(
    gpu,
    u,
    Float32Array.from({ length: u.size }, (_, i) => factor(Math.floor(i / inputs), i % inputs)),
  );
  const plan = new Plan(gpu, "matrix");
  pruneMatrix(plan, "prune", {
    ...{ dense, w, live, losses, codes, u, block },
    choice: pattern
      ? { kind: "pattern", zeros: pattern[0], group: pattern[1] }
      : { kind: "sparsity", prunedOf: (weights) => prunedOf(weights, sparsity) },
    ...(bits !== undefined && {
      levels: {
        ...levelsOf({ bits, symmetric }),
        symmetric,
        grid: operands.tensor("grid", [outputs, 2]),
      },
    }),
  });
  return await timed(context, plan);
}

/** Products of rows with their expert, in each form, beside dense experts, and beside one dense matrix for all rows. */
function productCases(
  context: SuiteContext,
  sizes: Sizes,
): (readonly [name: string, measure: () => Promise<Measured>])[] {
  const { rows: m, inputs: k, outputs: n } = sizes;
  const one = { m, n, k, layout: "nt", dtype: "f32" } as const;
  return [
    ["one", async () => ({
      timing: await timeProduct(context.gpu, one, context.timing),
      flops: 2 * m * n * k,
      bytes: 4 * (m * k + n * k + m * n),
    })],
    ["dense", () => timeDense(context, sizes)],
    ...Object.entries(COMPRESSIONS).map(([name, compression]) =>
      [name, () => timeCompressed(context, sizes, compression)] as const
    ),
  ];
}

/** Rows of random experts, sorted, and room for their products. */
async function sortedRows(
  { gpu, seed }: SuiteContext,
  operands: Operands,
  { rows: entries, inputs, outputs, clusters: experts }: Sizes,
) {
  const groups = await randomGroups(gpu, operands, { entries, experts, dtype: "f32", seed });
  const a = operands.tensor("a", [groups.rows, inputs]);
  const c = operands.tensor("c", [groups.rows, outputs]);
  await operands.fill(a);
  return { a, c, groups };
}

/** Products with dense experts, in as few tensors as the device's bindings allow. */
async function timeDense(context: SuiteContext, sizes: Sizes): Promise<Measured> {
  const { inputs, outputs, clusters } = sizes;
  const { max_binding_bytes, max_buffer_bytes } = context.gpu.capabilities;
  const fitting = Math.floor(
    Math.min(max_binding_bytes, max_buffer_bytes) / (4 * inputs * outputs),
  );
  using operands = new Operands(context.gpu);
  const rows = await sortedRows(context, operands, sizes);
  const b = Array.from({ length: Math.ceil(clusters / fitting) }, (_, i) => {
    const count = Math.min(fitting, clusters - i * fitting);
    return operands.tensor(`b.${i}`, [count, outputs, inputs]);
  });
  await operands.fill(...b);
  const plan = new Plan(context.gpu, "dense product");
  gemmGrouped(plan, "product", { ...rows, b, layout: "nt" });
  return await timed(context, plan, { held: operands.bytes });
}

/** Products with compressed experts, of which half the weights are stored. */
async function timeCompressed(
  context: SuiteContext,
  sizes: Sizes,
  of: Omit<Compression, "inputs">,
): Promise<Measured> {
  const { gpu, seed } = context;
  const { inputs, outputs, clusters } = sizes;
  const compression = { ...of, inputs };
  const matrix = packMatrix("expert", halfPruned({ ...sizes, seed }, compression), compression);
  const own = storedCounts(matrix).reduce((sum, n) => sum + n, 0);
  using operands = new Operands(gpu);
  using experts = new CompressedExperts(gpu, "experts", {
    ...compression,
    outputs,
    stored: Array.from({ length: clusters }, () => own),
    ...of.values.kind === "levels" && {
      grid: {
        scale: new Float32Array(outputs).fill(0.1),
        zero: new Float32Array(outputs).fill(8),
        lowest: 0,
      },
    },
  });
  for (let expert = 0; expert < clusters; expert++) experts.upload(expert, matrix);
  const rows = await sortedRows(context, operands, sizes);
  const plan = new Plan(gpu, "compressed product");
  gemmGroupedCompressed(plan, "product", { ...rows, b: experts.weights });
  return await timed(context, plan, { held: operands.bytes + experts.bytes });
}

/** Random weights, of which two in four are pruned, or each with an even chance. */
function halfPruned(
  { inputs, outputs, seed }: Sizes & { readonly seed: number },
  { pattern, values }: Compression,
): PrunedWeights {
  const size = inputs * outputs;
  const weight = new Float32Array(size);
  const mask = new Uint8Array(size);
  const level = new Int16Array(values.kind === "levels" ? size : 0);
  let state = seed >>> 0;
  for (let i = 0; i < size; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    // One of a pair's two is kept, so two of four are.
    mask[i] = pattern && i % 2 === 1 ? 1 - mask[i - 1]! : state >>> 31;
    if (mask[i]) continue;
    weight[i] = (state & 0xffff) / 2 ** 15 - 1;
    if (level.length > 0) level[i] = (state >>> 16) & 15;
  }
  if (level.length === 0) return { weight, mask };
  const [scale, zero] = [new Float32Array(outputs), new Float32Array(outputs)];
  return { weight, mask, quantised: { scale, zero, level } };
}
