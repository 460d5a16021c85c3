/**
 * Looks inside a trained model with experts: which of them take which tokens, how special they are, how their codes lie, and what the model loses without
 * them.
 *
 * @module
 */

import { join, resolve } from "@std/path";
import type { Gpu } from "../../model/gpu/device.ts";
import type { InferenceModel } from "../../model/inference/model.ts";
import { openInferenceModel } from "../../model/inference/open.ts";
import { ablate, type AblationResult, type ExpertEdit } from "../../model/interpret/ablation.ts";
import { equalUse } from "../../model/interpret/expert_counts.ts";
import { type ExpertLayer, expertLayers } from "../../model/interpret/expert_layers.ts";
import { type CodePath, interpolate } from "../../model/interpret/interpolation.ts";
import { ExpertProbe } from "../../model/interpret/probe.ts";
import { explain, systemCode, UserError } from "../../pipeline/errors.ts";
import { decodeMetrics } from "../../pipeline/store/series/metrics.ts";
import { ObjectStore } from "../../pipeline/store/objects.ts";
import { statOrUndefined } from "../../pipeline/store/files.ts";
import {
  type CheckpointKind,
  openCheckpoint,
  type OpenedCheckpoint,
} from "../commands/model/checkpoints.ts";
import { gpuProvenance } from "../shared_gpu.ts";
import {
  type ClusteredExperts,
  clusterExperts,
  describeClusters,
  type LayerClusters,
} from "./clusters.ts";
import type { TrainingUse } from "./figures/training.ts";
import {
  errorExperts,
  type LayerErrors,
  type Specialisation,
  specialisations,
} from "./specialisation.ts";
import { type ExploredText, readText, textAround, type TextOptions } from "./text.ts";
import { estimateTrace, requireRoom, traceError, TraceFile } from "./trace_file.ts";
import {
  contextsOf,
  type ExpertContexts,
  type LayerUse,
  layerUse,
  type ListedExpert,
  listExperts,
  specificities,
  type UsedExpert,
  usedExperts,
} from "./use.ts";

/** Options of {@linkcode exploreExperts}. */
export interface ExploreOptions extends TextOptions {
  /** See `findCheckpoint`. */
  readonly checkpoint: string;
  readonly which?: CheckpointKind;
  readonly precision: "f32" | "mixed";
  /** Folder that is made. */
  readonly out: string;
  /** Bytes that the trace may take. */
  readonly limit_bytes: number;
  /** Experts of each layer with contexts: so many by use, and as many by how special their tokens are. */
  readonly experts: number;
  /** Contexts of an expert. */
  readonly contexts: number;
  readonly clusters: number;
  /** Random controls beside each finding. */
  readonly controls: number;
  readonly seed: number;
  /** Predictions that ablations run over, at most. */
  readonly ablation_tokens: number;
  /** Opens the device, once the rest is known to be right. */
  gpu(): Promise<Gpu>;
  /** Is told what is under way. */
  progress?(line: string): void;
}

/** An expert that was left out alone, in its own right or as a control. */
export interface StrongestExpert {
  readonly layer: number;
  readonly expert: string;
  readonly use: number;
  /** Change of the mean loss, nats. */
  readonly change: number;
  /** Experts of the layer that were tried. */
  readonly tried: number;
}

/** Where a path ends: at one of the nearest codes, or at that of a random expert of equal use. */
export type CodeEnd = "near" | "random";

/** A path from the code of an expert that matters. */
export interface FoundPath {
  readonly end: CodeEnd;
  readonly path: CodePath;
}

/** All that was found of a model's experts. */
export interface ExpertFindings {
  readonly format: "experts";
  readonly version: 1;
  readonly checkpoint: string;
  /** Key of the node, where the checkpoint is one's. */
  readonly key?: string;
  readonly kind: string;
  readonly text: readonly string[];
  readonly sequence_length: number;
  readonly predictions: number;
  readonly trace: { readonly rows: number; readonly bytes: number };
  readonly seed: number;
  readonly controls: number;
  readonly use: readonly LayerUse[];
  /** The most used experts of each layer. */
  readonly used: readonly { readonly layer: number; readonly experts: readonly ListedExpert[] }[];
  readonly contexts: readonly ExpertContexts[];
  readonly specialisation: readonly Specialisation[];
  readonly training: readonly TrainingUse[];
  readonly clusters: readonly LayerClusters[];
  readonly ablation: AblationResult;
  /** Of each layer the expert that matters most, of all that were left out alone. */
  readonly strongest: readonly StrongestExpert[];
  readonly errors: readonly LayerErrors[];
  readonly paths: readonly FoundPath[];
  /** Texts of the tokens that ablations and paths name by their numbers. */
  readonly token_texts: Readonly<Record<number, string>>;
  readonly gpu: ReturnType<typeof gpuProvenance>;
}

/** Facts that the report needs besides the findings. */
export interface Explored {
  readonly findings: ExpertFindings;
  /** Experts of each layer by use. */
  readonly used: readonly { readonly use: LayerUse; readonly used: readonly UsedExpert[] }[];
  text(token: number): string;
}

/** Uses from which an expert has a mean. */
const LEAST_USES = 20;
/** Experts on a map and in a list: UMAP takes time with the square of their number. */
const MOST_ON_MAP = 1000;
/** Experts behind beams whose codes are read, which are as many as the text uses. */
const MOST_CODES = 4096;
/** Points of a path beside its first. */
const PATH_STEPS = 10;

/** Experts of a list in the findings. */
const LISTED = 10;

/**
 * Explores a checkpoint and writes the trace into a folder.
 *
 * @param folder Is there already.
 * @throws {UserError} In one line, if the checkpoint has no experts, the text is empty, or the trace too large.
 */
export async function exploreExperts(options: ExploreOptions, folder: string): Promise<Explored> {
  const { progress = () => {}, seed, controls } = options;
  const checkpoint = await openCheckpoint(options.checkpoint, options);
  const { architecture, tokenizer } = checkpoint;
  const layers = expertLayers(architecture);
  if (layers.length === 0) {
    throw new UserError(
      `--checkpoint is ${checkpoint.name}, whose feed-forwards are ${architecture.config.ffn.kind}; expected a model with experts: ethos, peer, switch or topk_moe.`,
    );
  }
  const most = layers[0]!.experts;
  if (options.clusters > most) {
    throw new UserError(
      `--clusters is ${options.clusters}, but a layer has ${most} experts; lower it.`,
    );
  }
  const explored = await readText(checkpoint, options);
  const estimate = estimateTrace(layers, explored.predictions);
  await requireRoom(estimate, { folder, limit_bytes: options.limit_bytes });

  const gpu = await options.gpu();
  using model = await openInferenceModel(gpu, checkpoint.model, { precision: options.precision });
  const { batches, length } = explored;
  const batch = batches[0]!.tokens.length / length;
  await using trace = await TraceFile.create({ folder, layers, ...explored });
  {
    using probe = await ExpertProbe.open(model, { batch, length, capacity: 1 });
    for (const [i, each] of batches.entries()) {
      progress(`trace, batch ${i + 1} of ${batches.length}`);
      try {
        await trace.add(await probe.run(each, { choices: true }));
      } catch (error) {
        throw traceError(error, folder);
      }
    }
  }
  await trace.writeParquet();

  const text = (token: number) => tokenizer.decode([token]);
  const numbers = layers.map(({ layer }) => layer);
  const used = [];
  const listed: { layer: number; experts: ListedExpert[] }[] = [];
  const contexts: ExpertContexts[] = [];
  const specific = new Map<number, ReadonlyMap<number, number>>();
  const around = textAround(explored, tokenizer);
  const shown = (layer: number, experts: readonly UsedExpert[]) =>
    contextsOf(trace, {
      ...{ layer, experts, contexts: options.contexts, around, text },
      specificity: specific.get(layer)!,
    });
  for (const layer of layers) {
    progress(`contexts, layer ${layer.layer}`);
    const experts = await usedExperts(trace, layer.layer);
    used.push({ use: layerUse(layer, experts), used: experts });
    const most_used = experts.slice(0, MOST_ON_MAP);
    listed.push({
      layer: layer.layer,
      experts: await listExperts(trace, { layer: layer.layer, experts: most_used, text }),
    });
    const special = await specificities(trace, { layer: layer.layer, least_uses: LEAST_USES });
    const first = experts.slice(0, options.experts);
    const others = special
      .map(({ number }) => experts.find((expert) => expert.number === number)!)
      .filter((expert) => !first.includes(expert))
      .slice(0, options.experts);
    specific.set(layer.layer, new Map(special.map((each) => [each.number, each.specificity])));
    contexts.push(...await shown(layer.layer, [...first, ...others]));
  }
  progress("specialisation");
  const specialisation = await specialisations(trace, { layers: numbers, controls, seed });
  progress("errors");
  const errors = await errorExperts(trace, {
    ...{ layers: numbers, controls, seed, least_uses: LEAST_USES, most: LISTED },
  });

  const clustered = new Map<number, ClusteredExperts>();
  const clusters: LayerClusters[] = [];
  for (const [i, layer] of layers.entries()) {
    const names = used[i]!.used.map(({ name }) => name);
    // Behind beams there are too many experts to read, and few in use may be fewer than clusters.
    const own = layer.axes > 1 ? names.slice(0, MOST_CODES) : undefined;
    if ((own ?? names).length < Math.max(4, options.clusters)) continue;
    progress(`clusters, layer ${layer.layer}`);
    const found = await clusterExperts(model, layer, {
      ...{ clusters: options.clusters, seed },
      ...(own && { names: own }),
    });
    clustered.set(layer.layer, found);
    const most_used = names.slice(0, MOST_ON_MAP);
    clusters.push(
      describeClusters(layer, found, { clusters: options.clusters, seed, most_used }),
    );
  }

  const edits = editsOf(layers, { contexts, clustered });
  const ablated = batches.slice(
    0,
    Math.max(1, Math.floor(options.ablation_tokens / (batch * length))),
  );
  const capacity = edits.reduce(
    (sum, { without }) => Math.max(sum, ...without.values().map((names) => names.length)),
    1,
  );
  let ablation: AblationResult;
  {
    using probe = await ExpertProbe.open(model, { batch, length, capacity });
    ablation = await ablate(probe, ablated, {
      ...{ edits, controls, seed, most_tokens: LISTED },
      onRun: (done, all) => progress(`ablation, run ${done + 1} of ${all}`),
    });
  }
  const strongest = layers.flatMap(({ layer }) => strongestOf(layer, ablation));
  for (const { layer, expert } of strongest) {
    if (contexts.some((each) => each.layer === layer && each.expert === expert)) continue;
    const own = used[numbers.indexOf(layer)]!.used.filter(({ name }) => name === expert);
    contexts.push(...await shown(layer, own));
  }
  progress("paths between codes");
  const paths = await pathsOf(model, {
    layers,
    explored,
    used: used.map((each) => each.used),
    contexts,
    clustered,
    strongest,
    controls,
    seed,
  });
  const bytes = await Promise.all(
    ["trace", "tokens"].map(async (name) =>
      (await Deno.stat(join(folder, `${name}.parquet`))).size
    ),
  );
  const findings: ExpertFindings = {
    format: "experts",
    version: 1,
    checkpoint: checkpoint.name,
    ...(checkpoint.record && { key: checkpoint.record.key }),
    kind: layers[0]!.kind,
    text: explored.text,
    sequence_length: length,
    predictions: explored.predictions,
    trace: { rows: trace.rows, bytes: bytes.reduce((a, b) => a + b, 0) },
    seed,
    controls,
    use: used.map(({ use }) => use),
    used: listed,
    contexts,
    specialisation,
    training: await trainingUses(checkpoint, options.storeDir),
    clusters,
    ablation,
    strongest,
    errors,
    paths,
    token_texts: Object.fromEntries(
      [
        ...ablation.edits.flatMap(({ by_token }) => by_token),
        ...paths.flatMap(({ path }) => path.points.flatMap(({ best }) => best)),
      ].map(({ token }) => [token, text(token)]),
    ),
    gpu: gpuProvenance(gpu),
  };
  return { findings, used, text };
}

/** The expert of a layer that matters most, of those that were left out alone. */
function strongestOf(layer: number, { edits }: AblationResult): StrongestExpert[] {
  const tried = new Map<string, StrongestExpert>();
  const add = (
    experts: Readonly<Record<string, readonly string[]>>,
    { use, change }: { readonly use: number; readonly change: number },
  ) => {
    const names = experts[layer];
    if (names?.length === 1) {
      tried.set(names[0]!, { layer, expert: names[0]!, use, change, tried: 0 });
    }
  };
  for (const { experts, use, change, controls } of edits) {
    add(experts, { use, change });
    controls.experts.forEach((control, c) =>
      add(control, { use: controls.use[c]!, change: controls.changes[c]! })
    );
  }
  return [...tried.values()]
    .sort((a, b) => Math.abs(b.change) - Math.abs(a.change))
    .slice(0, 1)
    .map((each) => ({ ...each, tried: tried.size }));
}

/** The experts with contexts of each layer, and its clusters. */
function editsOf(
  layers: readonly ExpertLayer[],
  { contexts, clustered }: {
    readonly contexts: readonly ExpertContexts[];
    readonly clustered: ReadonlyMap<number, ClusteredExperts>;
  },
): ExpertEdit[] {
  return layers.flatMap(({ layer }) => {
    const single = contexts.filter((each) => each.layer === layer).map(({ expert }) => ({
      name: `${layer}:${expert}`,
      without: new Map([[layer, [expert]]]),
    }));
    const found = clustered.get(layer);
    const clusters = (found?.sizes ?? []).map((_, c) => ({
      name: `${layer}:c${c}`,
      without: new Map([[layer, found!.names.filter((_, e) => found!.labels[e] === c)]]),
    }));
    return [...single, ...clusters];
  });
}

/**
 * Of each ETHOS layer paths from the expert without which the loss changes most, of those that were tried: to the nearest codes, and to random experts of
 * equal use.
 */
async function pathsOf(model: InferenceModel, options: {
  readonly layers: readonly ExpertLayer[];
  readonly explored: ExploredText;
  readonly used: readonly (readonly UsedExpert[])[];
  readonly contexts: readonly ExpertContexts[];
  readonly clustered: ReadonlyMap<number, ClusteredExperts>;
  readonly strongest: readonly StrongestExpert[];
  readonly controls: number;
  readonly seed: number;
}): Promise<FoundPath[]> {
  const { layers, explored, used, contexts, clustered, strongest, controls, seed } = options;
  const found: FoundPath[] = [];
  const { batches, length } = explored;
  for (const [i, layer] of layers.entries()) {
    const codes = clustered.get(layer.layer);
    if (layer.kind !== "ethos" || layer.axes > 1 || !codes) continue;
    const from = contexts.find((each) =>
      each.layer === layer.layer &&
      each.expert === strongest.find((other) => other.layer === layer.layer)?.expert
    );
    const place = from?.contexts[0];
    if (!place) continue;
    using probe = await ExpertProbe.open(model, { batch: 1, length, capacity: 1, logits: true });
    const sequences = batches[0]!.tokens.length / length;
    const whole = batches[Math.floor(place.sequence / sequences)]!;
    const start = (place.sequence % sequences) * length;
    const context = {
      batch: {
        tokens: whole.tokens.slice(start, start + length),
        targets: whole.targets.slice(start, start + length),
      },
      t: place.position,
    };
    const counts = new Map(used[i]!.map(({ name, uses }) => [name, uses]));
    const random = Array.from(
      { length: controls },
      (_, c) => equalUse(counts, [from.expert], { seed: seed + c }),
    ).flat();
    const ends = [
      ...nearest(codes, from.expert).slice(0, controls).map((to) => ({ end: "near", to }) as const),
      ...new Set(random).values().map((to) => ({ end: "random", to }) as const),
    ];
    for (const { end, to } of ends) {
      const path = await interpolate(model, probe, {
        ...{ layer, from: from.expert, to, steps: PATH_STEPS, context, most_tokens: 3 },
      });
      found.push({ end, path });
    }
  }
  return found;
}

/** The other experts, by how near their codes are to that of one. */
function nearest({ codes, names }: ClusteredExperts, from: string): string[] {
  const { width, values } = codes;
  const row = (i: number) => values.subarray(i * width, (i + 1) * width);
  const own = row(names.indexOf(from));
  return names
    .map((name, i) => ({
      name,
      distance: row(i).reduce((sum, value, j) => sum + (value - own[j]!) ** 2, 0),
    }))
    .filter(({ name }) => name !== from)
    .sort((a, b) => a.distance - b.distance)
    .map(({ name }) => name);
}

/** Use of the experts at each evaluation of the training, where the store has it. */
async function trainingUses(
  { record }: OpenedCheckpoint,
  storeDir: string,
): Promise<TrainingUse[]> {
  if (!record?.metrics) return [];
  const objects = new ObjectStore(join(storeDir, "objects"), "");
  const rows = decodeMetrics(
    await Deno.readTextFile(objects.path(record.metrics.sha256)),
    false,
  );
  const steps = Map.groupBy(rows, ({ step }) => step);
  return [...steps].flatMap(([step, values]) => {
    const of = (name: string) => values.find((value) => value.name === name)?.value ?? undefined;
    const [usage, unevenness, gini] = [
      of("expert_usage"),
      of("expert_unevenness"),
      of("expert_gini"),
    ];
    if (usage === undefined || unevenness === undefined || gini === undefined) return [];
    return [{ step, usage, unevenness, gini }];
  });
}

/**
 * Makes a folder: it appears whole or not at all.
 *
 * @param fill Fills a folder beside it.
 * @throws {UserError} If the folder is there already, or can't be written.
 */
export async function makeFolder<T>(
  out: string,
  fill: (folder: string) => Promise<T>,
): Promise<T & { readonly folder: string }> {
  const folder = resolve(out);
  if (await statOrUndefined(folder)) {
    throw new UserError(`${folder} is there already; give --out a name that is free.`);
  }
  const temporary = `${folder}.${Deno.pid}.partial`;
  try {
    await Deno.mkdir(temporary, { recursive: true });
    const made = await fill(temporary);
    await Deno.rename(temporary, folder);
    return { ...made, folder };
  } catch (error) {
    await Deno.remove(temporary, { recursive: true }).catch(() => {});
    if (systemCode(error) === undefined) throw error;
    throw new UserError(explain(error, `writing ${folder}`), { exitCode: 1, cause: error });
  }
}
