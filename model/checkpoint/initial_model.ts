/**
 * Starting a training from the weights of a trained model: the same one, one with fewer learned positions, one that fits in parts, or
 * a dense one whose feed-forwards become experts.
 *
 * @module
 */

import type { Architecture } from "../trunk/architecture.ts";
import { modelDifferences, readConfig, type TrainingState } from "./checkpoint.ts";
import { SafetensorsFile } from "./safetensors.ts";
import { planStart, type StartOptions, type StartPlan } from "./start_plan.ts";
import { copyOfExpert } from "./upcycle.ts";

export type { StartPlan } from "./start_plan.ts";

/** Weights that a training can start from. */
export interface InitialSource {
  /** Name in messages: the path of a file. */
  readonly name: string;
  /** The model's configuration in today's form, not yet checked. */
  readonly config: unknown;
  /** Shapes by the names of parameters and running statistics. */
  readonly tensors: ReadonlyMap<string, readonly number[]>;
  /** Gives `take` those tensors that `names` holds, one after another, row-major. */
  read(
    names: ReadonlySet<string>,
    take: (name: string, values: Float32Array) => void | Promise<void>,
  ): Promise<void>;
}

/**
 * Opens a model file. Its kinds are not loaded.
 *
 * @throws {Error} If it has no configuration, or can't be read.
 */
export async function openInitialModel(path: string): Promise<InitialSource> {
  const config = await readConfig(path);
  using file = await SafetensorsFile.open(path);
  return {
    name: path,
    config,
    tensors: new Map([...file.tensors].map(([name, { shape }]) => [name, shape])),
    async read(names, take) {
      using file = await SafetensorsFile.open(path);
      for (const name of names) {
        const { dtype, data } = await file.read(name);
        if (!(data instanceof Float32Array)) {
          throw new Error(`${path}: tensor ${name} is ${dtype}, expected F32`);
        }
        await take(name, data);
      }
    },
  };
}

/**
 * Checks that training a model can start from a source, and says which tensors come from where.
 *
 * @throws {Error} If it can't: naming the keys or the tensors that differ.
 */
export async function assertStartsFrom(
  source: InitialSource,
  architecture: Architecture,
  options: StartOptions,
): Promise<StartPlan> {
  return await planStart(source, architecture, {
    ...options,
    differences: (config, expected) => modelDifferences(source.name, config, expected),
  });
}

/**
 * Gives a trainer that has not begun the weights of a trained model. Moments and counters stay as they are at a beginning, and tensors that
 * the source lacks as the trainer's seed made them.
 *
 * @returns Which tensors were taken, and which not.
 * @throws {Error} If the source does not fit; see {@linkcode assertStartsFrom}.
 */
export async function loadInitialModel(
  source: InitialSource,
  trainer: TrainingState & { readonly seed: number },
  options: StartOptions,
): Promise<StartPlan> {
  const plan = await assertStartsFrom(source, trainer.architecture, options);
  const noise = options.upcycle?.noise ?? 0;
  const targets = Map.groupBy(plan.taken, ({ from }) => from);
  await source.read(new Set(targets.keys()), async (from, values) => {
    for (const { name, way, experts } of targets.get(from)!) {
      let whole = values;
      if (way === "first_rows") {
        whole = await trainer.readState("value", name);
        whole.set(values);
      } else if (way === "copies") {
        whole = new Float32Array(experts * values.length);
        for (let e = 0; e < experts; e++) {
          const copy = copyOfExpert(values, { noise, seed: trainer.seed, name, expert: e });
          whole.set(copy, e * values.length);
        }
      }
      await trainer.writeState("value", name, whole);
    }
  });
  await trainer.resume(0, await trainer.readControl());
  return plan;
}

/** The plan in lines for people: what was taken, what was not, and other settings of the source. */
export function describeStart(plan: StartPlan): string[] {
  const list = (entries: readonly { readonly name: string; readonly why: string }[]) =>
    entries.map(({ name, why }) => `${name} (${why})`).join(", ");
  return [
    `${plan.taken.length} tensors are taken` +
    (plan.initial.length + plan.unused.length === 0 ? ", all there are" : ""),
    ...plan.initial.length > 0 ? [`left at initial values: ${list(plan.initial)}`] : [],
    ...plan.unused.length > 0 ? [`unused: ${list(plan.unused)}`] : [],
    ...plan.differences.length > 0 ? [`other settings: ${plan.differences.join("; ")}`] : [],
  ];
}
