/**
 * Golden cases of Sparse Expansion: pruning, principal components with k-means, and one expanded layer.
 *
 * @module
 */

import { z } from "zod";
import { componentsOf, type Expansion, type Pruning } from "../sparse/options.ts";
import type { CaseBase } from "./case.ts";

/** The kinds of such files, by the metadata's `kind`. */
export const SPARSE_KINDS = ["sparsegpt", "pca_kmeans", "sparse_expansion_layer"] as const;

/** Shapes by name. */
type Shapes = Map<string, readonly number[]>;

/** SparseGPT alone, one case a prefix: the Hessian before damping, its factor, the pruned matrix. */
export interface SparsegptCase extends CaseBase {
  /** The kind of case. */
  readonly kind: "sparsegpt";
  /** How each case is pruned, by its prefix; `x` is `[n, in]`, `w` `[out, in]`. */
  readonly cases: ReadonlyMap<string, {
    readonly pruning: Pruning;
    readonly rows: number;
    readonly inputs: number;
    readonly outputs: number;
  }>;
}

/** Principal components of `x`, k-means of them, routes of `x_new`; `empty.*` runs Lloyd's algorithm from centroids without rows. */
export interface PcaKmeansCase extends CaseBase {
  /** The kind of case. */
  readonly kind: "pca_kmeans";
  /** How rows are clustered. */
  readonly expansion: Expansion;
  /** Components that are kept. */
  readonly components: number;
}

/** A SwiGLU expanded for its own inputs: both sites, the experts of each case, outputs and routes. */
export interface SparseLayerCase extends CaseBase {
  /** The kind of case. */
  readonly kind: "sparse_expansion_layer";
  /** How rows are clustered. */
  readonly expansion: Expansion;
  /** How experts are pruned, by the prefix of their results. */
  readonly cases: ReadonlyMap<string, Pruning>;
  /** The seed of the first site; the second has the next one. */
  readonly seed: number;
}

/** A case of Sparse Expansion. */
export type SparseCase = SparsegptCase | PcaKmeansCase | SparseLayerCase;

/** Whether a case is one of Sparse Expansion. */
export function isSparse(golden: { readonly kind: string }): golden is SparseCase {
  return (SPARSE_KINDS as readonly string[]).includes(golden.kind);
}

const count = z.int().min(1).max(2 ** 24);

/** How weights are pruned, in the keys of a file. */
export const pruningSchema = z.object({
  sparsity: z.number().min(0).lt(1).default(0),
  pattern: z.tuple([count, count]).optional(),
  bits: z.int().min(2).max(8).optional(),
  symmetric: z.boolean().default(false),
  block: count.default(128),
  damp: z.number().min(0).default(0.01),
});

const sparsegptSchema = z.object({
  cases: z.record(z.string(), pruningSchema.extend({ in: count, out: count, n: count })),
});

/** How rows are clustered, in the keys of a file. */
export const clusters = { clusters: count, restarts: count, factor: z.int().min(0) };

const pcaKmeansSchema = z.object({
  ...clusters,
  factor: count,
  n: count,
  new: count,
  width: count,
  empty_n: count,
  empty_width: count,
  empty_clusters: count,
});

const layerSchema = z.object({
  ...clusters,
  factor: count,
  seed: z.int().min(0),
  n: count,
  test: count,
  d_model: count,
  d_ffn: count,
  cases: z.record(z.string(), pruningSchema),
});

/** A file's `config`, by the schema of its kind. @throws {SyntaxError} Which key is wrong. */
export function parseWith<Schema extends z.ZodType>(
  schema: Schema,
  config: unknown,
  file: string,
): z.infer<Schema> {
  const parsed = schema.safeParse(config);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw new SyntaxError(
    `${file}: the metadata's config ${issue.path.join(".") || "as a whole"}: ${issue.message}`,
  );
}

/** Options from the keys of a file. */
export function pruningOf({ damp, ...rest }: z.infer<typeof pruningSchema>): Pruning {
  const { sparsity, pattern, bits, symmetric, block } = rest;
  return { sparsity, pattern, bits, symmetric, block, damping: damp };
}

/** Options from the keys of a file, with as many updates of centroids as the specification allows. */
export function expansionOf(
  config: { clusters: number; restarts: number; factor: number },
): Expansion {
  const { factor: pca_factor, ...rest } = config;
  return { clusters: rest.clusters, restarts: rest.restarts, pca_factor, max_iterations: 300 };
}

/** Splits a file's tensors into inputs and results, and checks the shapes of those that its kind must have. */
export type Take = (contents: { inputs: Shapes; results: Shapes }) => CaseBase;

function sparsegptCase(config: unknown, file: string, take: Take): SparsegptCase {
  const { cases } = parseWith(sparsegptSchema, config, file);
  const inputs: Shapes = new Map();
  const results: Shapes = new Map();
  for (const [name, { in: width, out, n, bits }] of Object.entries(cases)) {
    inputs.set(`${name}.x`, [n, width]).set(`${name}.w`, [out, width]);
    results.set(`${name}.out.hessian`, [width, width]).set(`${name}.out.u`, [width, width])
      .set(`${name}.out.w`, [out, width]).set(`${name}.out.mask`, [out, width])
      .set(`${name}.out.loss`, []);
    if (bits === undefined) continue;
    results.set(`${name}.out.scale`, [out]).set(`${name}.out.zero`, [out])
      .set(`${name}.out.level`, [out, width]);
  }
  const of = new Map(
    Object.entries(cases).map(([name, pruning]) => [name, {
      pruning: pruningOf(pruning),
      rows: pruning.n,
      inputs: pruning.in,
      outputs: pruning.out,
    }]),
  );
  return { kind: "sparsegpt", cases: of, ...take({ inputs, results }) };
}

function pcaKmeansCase(config: unknown, file: string, take: Take): PcaKmeansCase {
  const c = parseWith(pcaKmeansSchema, config, file);
  const components = componentsOf(c.width, c.factor);
  const empty = [c.empty_clusters, c.empty_width];
  const base = take({
    inputs: new Map<string, readonly number[]>([
      ["x", [c.n, c.width]],
      ["x_new", [c.new, c.width]],
      ["uniforms", [c.restarts, c.clusters]],
      ["empty.z", [c.empty_n, c.empty_width]],
      ["empty.centroids", empty],
    ]),
    results: new Map<string, readonly number[]>([
      ["out.mean", [c.width]],
      ["out.components", [c.width, components]],
      ["out.variance", [components]],
      ["out.z", [c.n, components]],
      ["out.first", [c.restarts, c.clusters]],
      ["out.inertia", [c.restarts]],
      ["out.iterations", [c.restarts]],
      ["out.best", [1]],
      ["out.centroids", [c.clusters, components]],
      ["out.labels", [c.n]],
      ["out.counts", [c.clusters]],
      ["out.route", [c.new]],
      ["empty.out.first_labels", [c.empty_n]],
      ["empty.out.first_centroids", empty],
      ["empty.out.centroids", empty],
      ["empty.out.labels", [c.empty_n]],
      ["empty.out.iterations", [1]],
      ["empty.out.repairs", [1]],
      ["empty.out.inertia", [1]],
    ]),
  });
  return { kind: "pca_kmeans", expansion: expansionOf(c), components, ...base };
}

/** The names that weights of a layer have in these files. */
export const LAYER = "model.layers.0.mlp.";

function layerCase(config: unknown, file: string, take: Take): SparseLayerCase {
  const c = parseWith(layerSchema, config, file);
  const shapes = {
    gate_proj: [c.d_ffn, c.d_model],
    up_proj: [c.d_ffn, c.d_model],
    down_proj: [c.d_model, c.d_ffn],
  };
  const results: Shapes = new Map([["out.y_dense", [c.n, c.d_model]]]);
  for (const [site, width] of [["in", c.d_model], ["mid", c.d_ffn]] as const) {
    const components = componentsOf(width, c.factor);
    results.set(`out.${site}.mean`, [width]).set(`out.${site}.components`, [width, components])
      .set(`out.${site}.centroids`, [c.clusters, components]).set(`out.${site}.labels`, [c.n]);
  }
  for (const name of Object.keys(c.cases)) {
    for (const [layer, shape] of Object.entries(shapes)) {
      results.set(`${name}.out.${layer}`, [c.clusters, ...shape])
        .set(`${name}.out.${layer}.mask`, [c.clusters, ...shape]);
    }
    results.set(`${name}.out.y`, [c.n, c.d_model]).set(`${name}.out.route.mid`, [c.n])
      .set(`${name}.out.y_test`, [c.test, c.d_model]).set(`${name}.out.route_test.in`, [c.test])
      .set(`${name}.out.route_test.mid`, [c.test]);
  }
  const inputs: Shapes = new Map([["x", [c.n, c.d_model]], ["x_test", [c.test, c.d_model]]]);
  for (const [layer, shape] of Object.entries(shapes)) inputs.set(`${LAYER}${layer}.weight`, shape);
  const cases = new Map(Object.entries(c.cases).map(([name, p]) => [name, pruningOf(p)]));
  const base = take({ inputs, results });
  return {
    kind: "sparse_expansion_layer",
    expansion: expansionOf(c),
    cases,
    seed: c.seed,
    ...base,
  };
}

/**
 * Reads a case of Sparse Expansion from the `config` of its file.
 *
 * @throws {SyntaxError} Which key of the configuration is wrong.
 */
export function sparseCase(
  kind: typeof SPARSE_KINDS[number],
  { config, file, take }: { config: unknown; file: string; take: Take },
): SparseCase {
  switch (kind) {
    case "sparsegpt":
      return sparsegptCase(config, file, take);
    case "pca_kmeans":
      return pcaKmeansCase(config, file, take);
    case "sparse_expansion_layer":
      return layerCase(config, file, take);
  }
}

/** The largest relative error of a result. Single weights are further off than outputs and losses, which are sums of many. */
export function sparseTolerance(name: string, precision: "float64" | "gpu"): number {
  if (precision === "float64") return 1e-6;
  const single =
    /\.(u|w|scale|(first_)?centroids|components|[a-z]+_proj)$|^out\.(centroids|experts)\./;
  return single.test(name) ? 1e-3 : 1e-4;
}

/** An input of a case as rows. */
export function inputRows(golden: SparseCase, name: string): {
  readonly rows: number;
  readonly columns: number;
  readonly data: Float64Array;
} {
  const { shape, data } = golden.inputs.get(name)!;
  const [rows, columns] = shape as [number, number];
  return { rows, columns, data };
}
