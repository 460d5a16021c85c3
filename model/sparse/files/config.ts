/**
 * The key `sparse_expansion` in the `config.json` of an expanded model.
 *
 * @module
 */

import { z } from "zod";
import { PretrainedError } from "../../pretrained/error.ts";
import { CONFIG_FILE, shown } from "../../pretrained/json.ts";
import { checkPruning, type Expansion, type Pruning } from "../options.ts";
import type { BlockForm } from "./layout.ts";

/** The key. */
export const EXPANSION_KEY = "sparse_expansion";

const count = z.int().min(1).max(2 ** 24);

const schema = z.strictObject({
  version: z.literal(1, { error: "expected version 1" }),
  clusters: count,
  pca_factor: z.int().min(0),
  restarts: count,
  max_iterations: count,
  centroids: z.enum(["kmeans", "rows", "random"]).optional(),
  method: z.enum(["sparsegpt", "magnitude"]).optional(),
  sparsity: z.number().min(0).lt(1),
  pattern: z.string().regex(/^\d{1,4}:\d{1,4}$/, { error: "expected N:M" }).optional(),
  bits: z.int().min(2).max(8).optional(),
  symmetric: z.boolean(),
  block: count,
  damping: z.number().min(0),
  seed: z.int().min(0),
  values: z.enum(["f32", "f16"]),
});

/** How a model was expanded, in the keys of its configuration. */
export interface PublishedExpansion extends BlockForm {
  readonly seed: number;
}

/** Whether a `config.json` is that of an expanded model. */
export function isExpandedConfig(config: unknown): config is Readonly<Record<string, unknown>> {
  return typeof config === "object" && config !== null && Object.hasOwn(config, EXPANSION_KEY);
}

/** Options without those that are not given. */
function given<Options extends object>(options: Options): Options {
  return Object.fromEntries(
    Object.entries(options).filter(([, value]) => value !== undefined),
  ) as Options;
}

/** The value of the key. */
export function expansionConfig(
  { expansion, pruning, values, seed }: PublishedExpansion,
): Readonly<Record<string, unknown>> {
  const pattern = pruning.pattern?.join(":");
  return { version: 1, ...given(expansion), ...given({ ...pruning, pattern }), seed, values };
}

/**
 * Splits the `config.json` of an expanded model.
 *
 * @returns The configuration of the dense model, and how it was expanded.
 * @throws {PretrainedError} Naming a key that is missing, wrong or not known.
 */
export function readExpansionConfig(config: Readonly<Record<string, unknown>>): {
  readonly dense: Readonly<Record<string, unknown>>;
  readonly expansion: PublishedExpansion;
} {
  const { [EXPANSION_KEY]: value, ...dense } = config;
  const parsed = schema.safeParse(value);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    const key = [EXPANSION_KEY, ...issue.path].join(".");
    const found = issue.path.reduce<unknown>((at, name) => Object(at)[name], value);
    throw new PretrainedError(`${CONFIG_FILE}: ${key} is ${shown(found)}; ${issue.message}`);
  }
  const { clusters, pca_factor, restarts, max_iterations, centroids, ...rest } = parsed.data;
  const { method, sparsity, pattern, bits, symmetric, block, damping, seed, values } = rest;
  const expansion: Expansion = given({
    ...{ clusters, pca_factor, restarts, max_iterations, centroids },
  });
  const pruning: Pruning = given({
    ...{ method, sparsity, bits, symmetric, block, damping },
    pattern: pattern?.split(":").map(Number) as [number, number] | undefined,
  });
  return { dense, expansion: { expansion, pruning, seed, values } };
}

/**
 * Refuses a pruning that the layers of a model cannot have.
 *
 * @throws {PretrainedError} Which key does not fit.
 */
export function checkFit(pruning: Pruning, name: string, inputs: number): void {
  try {
    checkPruning(pruning, name, inputs);
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw new PretrainedError(`${CONFIG_FILE}: ${EXPANSION_KEY}: ${cause.message}`, { cause });
  }
}
