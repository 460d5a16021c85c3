/**
 * `sparse-activation`: whether a trained mixture computes exactly the experts that it says, how evenly it uses them, what memory its batch takes, and
 * whether its gradients are right.
 *
 * @module
 */

import { join, resolve } from "@std/path";
import { z } from "zod";
import { type LayerGradients, layerGradients } from "../../../model/bench/activation/gradients.ts";
import { type LayerMemory, layerMemory } from "../../../model/bench/activation/layer_memory.ts";
import {
  ActivationCounter,
  isExact,
  type LayerActivation,
} from "../../../model/bench/activation/what_ran.ts";
import type { Gpu } from "../../../model/gpu/device.ts";
import { InferenceModel } from "../../../model/inference/model.ts";
import { openInferenceModel } from "../../../model/inference/open.ts";
import {
  chanceCv,
  type ExpertBalance,
  expertBalance,
} from "../../../model/inference/usage_statistics.ts";
import type { ModelConfig } from "../../../model/section.ts";
import { explain, systemCode, UserError } from "../../../pipeline/errors.ts";
import { statOrUndefined } from "../../../pipeline/store/files.ts";
import { formatTable } from "../../../pipeline/terminal/table.ts";
import { expertShares } from "../../report/figures/expert_shares.ts";
import { renderFigure } from "../../report/figures/render.ts";
import { gpuProvenance } from "../../shared_gpu.ts";
import {
  type CheckpointKind,
  openCheckpoint,
  type OpenedCheckpoint,
  trainedLength,
} from "./checkpoints.ts";
import { showBytes } from "../speed/quantities.ts";
import { filesOfGlob, openSplit, openText } from "./evaluate.ts";

/** Options of {@linkcode sparseActivation}. */
export interface SparseActivationOptions {
  /** See `findCheckpoint`. */
  readonly checkpoint: string;
  readonly which?: CheckpointKind;
  readonly storeDir: string;
  /** Text to read; the validation split of the node's dataset unless given. */
  readonly files?: string;
  /** Tokens at most. */
  readonly tokens: number;
  /** Sequences computed at once. */
  readonly micro_batch: number;
  readonly precision: "f32" | "mixed";
  /** Folder that is made. */
  readonly out: string;
  /** Opens the device, once the rest is known to be right. */
  gpu(): Promise<Gpu>;
  /** Is told what is under way. */
  progress?(line: string): void;
  warn?(line: string): void;
}

/** One layer of one model: what ran, and how evenly. */
export interface LayerBalance extends LayerActivation, ExpertBalance {
  /** Whether each token had exactly k different experts, each computed once. */
  readonly exact: boolean;
  /** Share of tokens times experts that was computed: k/E where a token has k. */
  readonly share: number;
  /** Shares of the kept slots by expert. */
  readonly shares: readonly number[];
  /** Coefficient of variation of as many slots that fall by chance. */
  readonly chance_cv: number;
}

/** A model, trained or not. */
export interface ModelActivation {
  readonly layers: readonly LayerBalance[];
  /** Of the last layer, without the load-balance term and with it. */
  readonly gradients: readonly LayerGradients[];
}

/** Something that must hold, and whether it does. */
export interface Check {
  readonly name: string;
  readonly passed: boolean;
  readonly detail: string;
}

/** All that was found, as JSON. */
export interface SparseActivation {
  readonly format: "sparse-activation";
  readonly version: 1;
  readonly checkpoint: string;
  /** Files that were read, or the split. */
  readonly text: readonly string[];
  /** Tokens of a sequence. */
  readonly sequence_length: number;
  readonly models: { readonly untrained: ModelActivation; readonly trained: ModelActivation };
  readonly memory: LayerMemory;
  readonly checks: readonly Check[];
  readonly gpu: ReturnType<typeof gpuProvenance>;
}

/** Tokens of a sequence when nobody knows the length that the model was trained with, and of the sequences that memory is measured with. */
const LENGTH = 256;
/** Sequences of the batches that memory is measured with. */
const SEQUENCES = [1, 4, 8, 16, 32];
/** Part by which a sequence of the largest batch may add more memory than the first one. */
const GROWTH = 0.05;
/** How far a finite difference may be from its gradient, as a fraction of it. */
const DIFFERENCE = 5e-3;
/** Chooses the untrained weights where the training's seed is not known, and the inputs of gradients. */
const SEED = 1;

/**
 * Checks a checkpoint, and writes numbers and a figure to a new folder.
 *
 * @throws {UserError} If checkpoint, text or folder are wrong.
 */
export async function sparseActivation(
  options: SparseActivationOptions,
): Promise<SparseActivation & { readonly folder: string }> {
  const folder = resolve(options.out);
  if (await statOrUndefined(folder)) {
    throw new UserError(`${folder} is there already; give --out a name that is free.`);
  }
  const checkpoint = await openCheckpoint(options.checkpoint, options);
  const { architecture } = checkpoint;
  if (!("d_expert" in architecture.config.ffn)) {
    throw new UserError(
      `--checkpoint is ${checkpoint.name}, whose feed-forwards are ${architecture.config.ffn.kind}; expected a mixture of whole experts, topk_moe or switch.`,
    );
  }
  const { text, tokens } = await readTokens(checkpoint, options);
  const length = Math.min(
    trainedLength(checkpoint) ?? LENGTH,
    architecture.longest,
    tokens.length,
  );
  const batch = Math.min(options.micro_batch, Math.floor(tokens.length / length));
  const gpu = await options.gpu();
  const { precision } = options;
  const examine = async (name: string, model: InferenceModel): Promise<ModelActivation> => {
    options.progress?.(`experts that run, ${name}`);
    using counter = await ActivationCounter.open(model, { batch, length });
    const size = batch * length;
    for (let at = 0; at + size <= tokens.length; at += size) {
      await counter.add(tokens.subarray(at, at + size));
    }
    options.progress?.(`gradients, ${name}`);
    const layer = architecture.config.num_layers - 1;
    const gradients: LayerGradients[] = [];
    for (const balanced of [false, true]) {
      gradients.push(await layerGradients(model, { layer, balanced, seed: SEED }));
    }
    return { layers: counter.layers.map(balanceOf), gradients };
  };
  const seed = seedOf(checkpoint);
  const models = {
    untrained: await (async () => {
      using model = await InferenceModel.untrained(gpu, architecture, { seed, precision });
      return await examine("untrained", model);
    })(),
    trained: await (async () => {
      using model = await openInferenceModel(gpu, checkpoint.model, { precision });
      return await examine("trained", model);
    })(),
  };
  options.progress?.("memory of a layer");
  const memory = await layerMemory(gpu, {
    architecture,
    length: Math.min(LENGTH, architecture.longest),
    sequences: SEQUENCES,
    precision,
  });
  const result: SparseActivation = {
    format: "sparse-activation",
    version: 1,
    checkpoint: checkpoint.name,
    text,
    sequence_length: length,
    models,
    memory,
    checks: [
      ...Object.entries(models).flatMap(([name, model]) =>
        checksOf(name, architecture.config, model)
      ),
      memoryCheck(memory),
    ],
    gpu: gpuProvenance(gpu),
  };
  await write(folder, result);
  return { ...result, folder };
}

/** The first tokens of the text. */
async function readTokens(
  checkpoint: OpenedCheckpoint,
  options: SparseActivationOptions,
): Promise<{ text: readonly string[]; tokens: Uint32Array }> {
  const { files: glob, tokens: most } = options;
  if (glob === undefined) {
    using source = await openSplit(checkpoint, "validation", options);
    const tokens = source.read(0, Math.min(most, source.length));
    return { text: ["validation split"], tokens: Uint32Array.from(tokens) };
  }
  const files = await filesOfGlob(glob, options);
  await using text = await openText(files, checkpoint.tokenizer, {});
  const tokens: number[] = [];
  for await (const block of text.tokens) {
    for (const token of block) if (tokens.length < most) tokens.push(token);
    if (tokens.length >= most) break;
  }
  return { text: files, tokens: Uint32Array.from(tokens) };
}

/** Seed of the training, where the checkpoint says it: it chooses the untrained model's weights. */
function seedOf({ params }: OpenedCheckpoint): number {
  return z.object({ seed: z.int().min(0) }).safeParse(params).data?.seed ?? SEED;
}

function balanceOf(layer: LayerActivation): LayerBalance {
  const { counts, slots, tokens, experts } = layer;
  return {
    ...layer,
    ...expertBalance(counts),
    exact: isExact(layer),
    share: slots / (tokens * experts),
    shares: counts.map((count) => count / slots),
    chance_cv: chanceCv(slots, experts),
  };
}

/** A property that must hold of a model. */
function checksOf(name: string, { ffn }: ModelConfig, model: ModelActivation): Check[] {
  const dynamic = "choice" in ffn && ffn.choice === "top_p";
  const { layers, gradients } = model;
  const kept = layers[0]!.kept;
  const slots = layers.reduce((sum, layer) => sum + layer.slots, 0);
  const places = layers.reduce((sum, { tokens, experts }) => sum + tokens * experts, 0);
  const within = (layer: LayerBalance) =>
    dynamic ? layer.fewest_experts >= 1 && layer.repeated === 0 : layer.exact;
  const wrong = layers.filter((layer) => !within(layer)).map(({ layer }) => layer);
  const share = `${slots} of ${places} pairs of a token and an expert, ${
    (100 * slots / places).toFixed(2)
  } %`;
  const differences = gradients.flatMap((each) => each.differences);
  const worst = differences.reduce((a, { relative }) => Math.max(a, relative), 0);
  const columns = (each: LayerGradients) =>
    each.unused_columns === "none" ||
    each.unused_columns === (each.balanced || ffn.kind === "switch" ? "nonzero" : "zero");
  const unused = gradients.map((each) => each.unused).join(" and ");
  return [
    {
      name: `${name}: ${
        dynamic ? `1 to ${kept}` : `exactly ${kept}`
      } different experts ran for each token`,
      passed: wrong.length === 0,
      detail: wrong.length === 0 ? share : `not in layers ${wrong.join(", ")}; ${share}`,
    },
    {
      name: `${name}: experts without tokens have no gradient, those with tokens have one`,
      passed: gradients.every((each) =>
        each.finite && each.unused_are_zero && each.used_are_not && columns(each)
      ),
      detail: `${unused} experts without tokens; gate columns ${
        gradients.map((each) =>
          `${each.unused_columns} ${each.balanced ? "with" : "without"} the balance term`
        )
          .join(", ")
      }`,
    },
    {
      name: `${name}: finite differences agree`,
      passed: differences.length > 0 && worst < DIFFERENCE,
      detail: `${differences.length} gradients, at most ${(100 * worst).toFixed(3)} % off`,
    },
  ];
}

/**
 * A sequence of a larger batch may not add more than the first. It need not fall on a line: products of few rows whose sums are taken in several parts
 * have buffers for these parts, which larger batches do without.
 */
function memoryCheck({ points, fit, weights }: LayerMemory): Check {
  const added = points.map(({ sequences, bytes }) => (bytes - weights) / sequences);
  const [first, last] = [added[0]!, added.at(-1)!];
  const off = points.reduce(
    (most, { sequences, bytes }) =>
      Math.max(most, Math.abs(bytes / (fit.a + fit.b * sequences) - 1)),
    0,
  );
  return {
    name: "a layer's memory beyond its weights does not grow faster than its sequences",
    passed: fit.b > 0 && last <= (1 + GROWTH) * first,
    detail: `${showBytes(first)} for the first sequence, ${showBytes(last)} for each of ${
      points.at(-1)!.sequences
    }; line ${showBytes(fit.a)} + ${showBytes(fit.b)} a sequence, at most ${
      (100 * off).toFixed(1)
    } % off; weights ${showBytes(weights)}`,
  };
}

/** Writes the numbers and the figure; the folder appears whole or not at all. */
async function write(folder: string, result: SparseActivation): Promise<void> {
  const figure = expertShares(
    result.models.untrained.layers.flatMap(({ layer }) =>
      (["untrained", "trained"] as const).map((model) => {
        const { counts, cv } = result.models[model].layers.find((each) => each.layer === layer)!;
        return { layer, model, counts, cv };
      })
    ),
  );
  const { name, svg, png, sources } = await renderFigure(figure);
  const temporary = `${folder}.${Deno.pid}.partial`;
  try {
    await Deno.mkdir(temporary, { recursive: true });
    const text = (file: string, content: string) =>
      Deno.writeTextFile(join(temporary, file), content);
    await text("sparse_activation.json", `${JSON.stringify(result, null, 2)}\n`);
    await text(`${name}.svg`, svg);
    await Deno.writeFile(join(temporary, `${name}.png`), png);
    for (const [extension, content] of Object.entries(sources)) {
      await text(`${name}.${extension}`, content);
    }
    await Deno.rename(temporary, folder);
  } catch (error) {
    await Deno.remove(temporary, { recursive: true }).catch(() => {});
    if (systemCode(error) === undefined) throw error;
    throw new UserError(explain(error, `writing ${folder}`), { exitCode: 1, cause: error });
  }
}

/** The findings as text. */
export function renderSparseActivation(result: SparseActivation): string {
  const rows = (["untrained", "trained"] as const).flatMap((name) =>
    result.models[name].layers.map((layer) => [
      name,
      String(layer.layer),
      String(layer.tokens),
      (layer.slots / layer.tokens).toFixed(3),
      layer.cv.toFixed(3),
      layer.chance_cv.toFixed(3),
      layer.entropy.toFixed(3),
      `${showPart(layer.fewest, layer.slots)} to ${showPart(layer.most, layer.slots)}`,
      String(layer.rare),
    ])
  );
  const { length, points } = result.memory;
  return [
    formatTable(
      [
        "model",
        "layer",
        "tokens",
        "experts a token",
        "CV",
        "by chance",
        "entropy",
        "shares",
        "rare",
      ],
      rows,
    ),
    formatTable(
      [`sequences of ${length}`, "memory of a layer"],
      points.map(({ sequences, bytes }) => [String(sequences), showBytes(bytes)]),
    ),
    ...result.checks.map(({ name, passed, detail }) =>
      `${passed ? "✓" : "✗"} ${name}\n  ${detail}`
    ),
  ].join("\n\n");
}

const showPart = (part: number, all: number) => `${(100 * part / all).toFixed(1)} %`;
