/**
 * Golden cases of a published model whose MLPs are expanded layer after layer from calibration sequences.
 *
 * @module
 */

import { z } from "zod";
import { architectureOf } from "../../config.ts";
import type { PretrainedConfig } from "../../pretrained/family.ts";
import { componentsOf, type Expansion, type Pruning } from "../../sparse/options.ts";
import type { Architecture } from "../../trunk/architecture.ts";
import type { CaseBase } from "../case.ts";
import {
  clusters,
  expansionOf,
  parseWith,
  pruningOf,
  pruningSchema,
  type Take,
} from "../sparse.ts";
import { publishedModelOf, storedParameters, storedShapes } from "./stored.ts";

/** The `kind` in the metadata of such files. */
export const EXPANDED_KIND = "tiny_sparse_expansion";

/** The sites of an MLP in their order, and the matrices that read each. */
export const SITE_LAYERS = [["in", ["gate", "up"]], ["mid", ["down"]]] as const;

/** One of an MLP's matrices. */
export type LayerName = typeof SITE_LAYERS[number][1][number];

/**
 * A whole model expanded from `calibration`: of each layer `l` and site `s`, `out.labels.l.s` and `out.centroids.l.s`; of each linear layer, `out.experts.*` and
 * `out.masks.*`; of `tokens`, `out.dense_loss` before, `out.logits` and `out.loss` after. Weights are `param.*` by the names of their checkpoint.
 */
export interface ExpandedCase extends CaseBase {
  /** The kind of case. */
  readonly kind: "expanded";
  /** The model in the project's terms. */
  readonly architecture: Architecture;
  /** Its parameters by the project's names, row-major. */
  readonly parameters: ReadonlyMap<string, Float32Array>;
  /** Sequences of `tokens`. */
  readonly batch: number;
  /** Tokens of a sequence. */
  readonly length: number;
  /** How rows are clustered. */
  readonly expansion: Expansion;
  /** How experts are pruned. */
  readonly pruning: Pruning;
  /** The seed of the first site of the first layer. */
  readonly seed: number;
  /** The linear layers of each MLP by the names of the checkpoint; a matrix that the model lacks is left out. */
  readonly linears: readonly ReadonlyMap<LayerName, string>[];
}

const count = z.int().min(1).max(2 ** 24);

const schema = pruningSchema.extend({
  ...clusters,
  config: z.record(z.string(), z.unknown()),
  count,
  B: count,
  L: count,
  seed: z.int().min(0).max(2 ** 31),
});

/** The linear layers of each MLP. */
function linearsOf({ model, tensors }: PretrainedConfig): Map<LayerName, string>[] {
  const stored = new Map(tensors.map(({ name, parts }) => [name, parts[0]!.name]));
  return Array.from(
    { length: model.num_layers },
    (_, l) =>
      new Map(
        SITE_LAYERS.flatMap(([, names]) => names).flatMap((name) => {
          const found = stored.get(`layers.${l}.ffn.w_${name}`);
          return found === undefined ? [] : [[name, found.replace(/\.weight$/, "")] as const];
        }),
      ),
  );
}

/**
 * Reads a case from the `config` of its file.
 *
 * @throws {SyntaxError} Which key of the configuration is wrong.
 */
export function expandedCase(
  { config, file, take }: { config: unknown; file: string; take: Take },
): ExpandedCase {
  const found = parseWith(schema, config, file);
  const { config: model, count, clusters, factor, restarts, B, L, seed, ...pruning } = found;
  const widened = publishedModelOf(model, { key: "config", file });
  const { published } = widened;
  const { d_model, vocab_size, ffn } = published.model;
  const { d_ffn } = ffn as Extract<typeof ffn, { kind: "dense" }>;
  const linears = linearsOf(published);
  const results = new Map<string, readonly number[]>([
    ["out.dense_loss", []],
    ["out.logits", [B, L, vocab_size]],
    ["out.loss", []],
  ]);
  for (const [l, stored] of linears.entries()) {
    for (const [s, [, names]] of SITE_LAYERS.entries()) {
      const width = [d_model, d_ffn][s]!;
      const components = factor ? componentsOf(width, factor) : width;
      results.set(`out.labels.${l}.${s}`, [count * L])
        .set(`out.centroids.${l}.${s}`, [clusters, components]);
      for (const name of names) {
        const linear = stored.get(name);
        if (linear === undefined) continue;
        const shape = [clusters, s === 0 ? d_ffn : d_model, width];
        results.set(`out.experts.${linear}`, shape).set(`out.masks.${linear}`, shape);
      }
    }
  }
  const inputs = new Map<string, readonly number[]>([
    ["calibration", [count, L]],
    ["tokens", [B, L]],
    ...storedShapes(widened),
  ]);
  const base = take({ inputs, results });
  return {
    kind: "expanded",
    architecture: architectureOf(published.model),
    parameters: storedParameters(widened, base.inputs),
    batch: B,
    length: L,
    expansion: expansionOf({ clusters, factor, restarts }),
    pruning: pruningOf(pruning),
    seed,
    linears,
    ...base,
  };
}
