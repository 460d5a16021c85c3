/**
 * Losses with experts left out, beside those with random experts of equal use left out.
 *
 * An expert that is left out has the weight 0; the weights of a token's other experts stay as they are.
 *
 * @module
 */

import { Arena } from "../gpu/memory.ts";
import { Tensor } from "../gpu/tensor.ts";
import { upload } from "../gpu/transfer.ts";
import type { InferenceModel } from "../inference/model.ts";
import type { TokenBatch } from "../inference/token_batch.ts";
import type { ExpertChoice } from "../layer/context.ts";
import { NO_TARGET } from "../ops/elementwise/cross_entropy.ts";
import { listedExperts, withoutExperts } from "../ops/experts/experts_without.ts";
import { readCodes, writeCode } from "./codes.ts";
import {
  assignments,
  countExperts,
  emptyCounts,
  equalUse,
  type ExpertCounts,
} from "./expert_counts.ts";
import { type ExpertLayer, expertLayer, expertLayers, expertNumbers } from "./expert_layers.ts";
import { type ControlSummary, summarise } from "./information.ts";
import type { ExpertProbe, LeftOut } from "./probe.ts";

/** Experts that are left out together, and codes that are replaced. */
export interface ExpertEdit {
  /** Name in results: `3:17`, `3:c2`. */
  readonly name: string;
  /** Names of the experts that are left out, by layer number. */
  readonly without: ReadonlyMap<number, readonly string[]>;
  /** Experts that get another code, as `readCodes` gives it. */
  readonly codes?: readonly NewCode[];
}

/** A code in the place of an expert's own. */
export interface NewCode {
  readonly layer: number;
  readonly expert: string;
  readonly code: ArrayLike<number>;
}

/** Loss of the predictions of one token. */
export interface TokenChange {
  /** The token that was to be predicted. */
  readonly token: number;
  /** Its predictions. */
  readonly count: number;
  /** Their mean loss as the model is, nats. */
  readonly nats: number;
  /** Change of the mean, nats; positive where leaving experts out makes predictions worse. */
  readonly change: number;
}

/** The effect of one edit. */
export interface EditEffect {
  readonly name: string;
  /** Names of its experts, by layer. */
  readonly experts: Readonly<Record<string, readonly string[]>>;
  /** Pairs of a token and one of the experts. */
  readonly use: number;
  /** Mean loss of the edited model, nats, and its change. */
  readonly nats: number;
  readonly change: number;
  /** Predicting tokens that kept one of the experts, and the change of their mean loss; `null` without such tokens. */
  readonly keepers: { readonly tokens: number; readonly change: number | null };
  /** The same edit of random experts of equal use. */
  readonly controls: {
    readonly experts: readonly Readonly<Record<string, readonly string[]>>[];
    readonly use: readonly number[];
    /** Changes of the mean loss, nats. */
    readonly changes: readonly number[];
    readonly summary?: ControlSummary;
  };
  /** Tokens by how much their loss changes in sum, those that change most first. */
  readonly by_token: readonly TokenChange[];
}

/** The effects of edits on one text. */
export interface AblationResult {
  /** Predictions. */
  readonly tokens: number;
  /** Mean loss of the model as it is, nats. */
  readonly nats: number;
  readonly edits: readonly EditEffect[];
}

/** Options of {@linkcode ablate}. */
export interface AblationOptions {
  readonly edits: readonly ExpertEdit[];
  /** Random edits beside each. */
  readonly controls: number;
  readonly seed: number;
  /** Tokens of {@linkcode EditEffect.by_token}. */
  readonly most_tokens: number;
  /** Told before each run over the text. */
  onRun?(done: number, all: number): void;
}

/** Names of experts by layer. */
type Names = ReadonlyMap<number, readonly string[]>;

/**
 * Measures edits. The text is scored once as it is, and once for each edit and each control; the model is as it was afterwards.
 *
 * @param batches Of the probe's size. They stay in memory, as do the losses of each token.
 * @throws {RangeError} If an edit names a layer without experts or an expert that does not exist, leaves out more than the probe's list holds, or replaces
 * codes that are not an expert's own.
 */
export async function ablate(
  probe: ExpertProbe,
  batches: readonly TokenBatch[],
  options: AblationOptions,
): Promise<AblationResult> {
  const { edits, controls, seed, most_tokens, onRun } = options;
  const experts = edits.map(expertsOf);
  for (const names of experts) numbersOf(probe, names);
  const all = 1 + edits.length * (1 + controls);
  let run = 0;
  onRun?.(run++, all);
  const text = await TextLosses.measure(probe, batches, experts);
  const changesOf = async (edit: ExpertEdit) => {
    onRun?.(run++, all);
    await using _ = await applied(probe, edit);
    return await text.changes();
  };
  const effects: EditEffect[] = [];
  for (const [e, edit] of edits.entries()) {
    const changes = await changesOf(edit);
    const change = text.mean(changes).mean;
    const kept = text.mean(changes, (i) => text.keepers[e]![i] === 1);
    const found: { names: Names; change: number }[] = [];
    for (let c = 0; c < controls; c++) {
      const names = randomNames(experts[e]!, text.counts, seed + 7919 * (e * controls + c));
      if (names === undefined) break;
      const random = renamed(edit, { from: experts[e]!, to: names });
      found.push({ names, change: text.mean(await changesOf(random)).mean });
    }
    effects.push({
      name: edit.name,
      experts: Object.fromEntries(experts[e]!),
      use: useOf(experts[e]!, text.counts),
      nats: text.nats + change,
      change,
      keepers: { tokens: kept.count, change: kept.count > 0 ? kept.mean : null },
      controls: {
        experts: found.map(({ names }) => Object.fromEntries(names)),
        use: found.map(({ names }) => useOf(names, text.counts)),
        changes: found.map((each) => each.change),
        ...(found.length > 0 && { summary: summarise(found.map((each) => each.change)) }),
      },
      by_token: text.byToken(changes).slice(0, most_tokens),
    });
  }
  return { tokens: text.tokens, nats: text.nats, edits: effects };
}

/** Edits the model of a probe until the result is disposed of. */
async function applied(
  probe: ExpertProbe,
  { without, codes = [] }: ExpertEdit,
): Promise<AsyncDisposable> {
  const leftOut = numbersOf(probe, without);
  const undo = await replaceCodes(probe.model, probe.layers, codes);
  probe.leaveOut(leftOut);
  return {
    async [Symbol.asyncDispose]() {
      probe.leaveOut(new Map());
      await undo();
    },
  };
}

/** Replaces codes; the result puts the own ones back. */
async function replaceCodes(
  model: InferenceModel,
  layers: readonly ExpertLayer[],
  codes: readonly NewCode[],
): Promise<() => Promise<void>> {
  const before: NewCode[] = [];
  const write = async ({ layer, ...code }: NewCode) =>
    await writeCode(model, expertLayer(layers, layer), code);
  const undo = async () => {
    // An expert that is named twice has its first code in the end.
    for (const code of before.toReversed()) await write(code);
  };
  try {
    for (const each of codes) {
      const { values } = await readCodes(model, expertLayer(layers, each.layer), [each.expert]);
      before.push({ ...each, code: values });
      await write(each);
    }
  } catch (error) {
    await undo();
    throw error;
  }
  return undo;
}

/** A model that is edited, for passes that are recorded from now on. */
export interface AppliedEdit extends AsyncDisposable {
  /** Leaves experts out of a pass that is recorded with it. */
  readonly onChoice: (choice: ExpertChoice) => void;
}

/**
 * Edits a model until the result is disposed of: codes are replaced, and `onChoice` of the result leaves experts out of a recorded pass.
 *
 * @throws {RangeError} If the edit does not fit the model.
 */
export async function applyEdit(model: InferenceModel, edit: ExpertEdit): Promise<AppliedEdit> {
  const layers = expertLayers(model.architecture);
  const arenas: Arena[] = [];
  const undo = await replaceCodes(model, layers, edit.codes ?? []);
  return {
    onChoice({ plan, at, index, score }) {
      const layer = layers.find((each) => each.at === at);
      const names = layer && edit.without.get(layer.layer);
      if (!names) return;
      const { axes } = layer;
      const capacity = Math.max(1, names.length);
      const listed = new Tensor(`${at}.listed`, [capacity, axes], { dtype: "u32" });
      arenas.push(new Arena(model.gpu, listed.name, [listed]));
      const numbers = names.map((name) => expertNumbers(layer, name));
      upload(model.gpu, listed, listedExperts(numbers, { capacity, axes }));
      withoutExperts(plan, `${at}.without`, { index, score, listed });
    },
    async [Symbol.asyncDispose]() {
      for (const arena of arenas) arena.destroy();
      await undo();
    },
  };
}

/** Losses of a text by the model as it is, and how they change. */
class TextLosses {
  readonly counts: ReadonlyMap<number, ExpertCounts>;
  /** For each edit, 1 where a token keeps one of its experts. */
  readonly keepers: readonly Uint8Array[];
  /** Predictions. */
  readonly tokens: number;
  /** Their mean loss, nats. */
  readonly nats: number;
  readonly #probe: ExpertProbe;
  readonly #batches: readonly TokenBatch[];
  readonly #targets: Uint32Array;
  readonly #losses: Float32Array;

  private constructor(options: {
    readonly probe: ExpertProbe;
    readonly batches: readonly TokenBatch[];
    readonly targets: Uint32Array;
    readonly losses: Float32Array;
    readonly counts: ReadonlyMap<number, ExpertCounts>;
    readonly keepers: readonly Uint8Array[];
  }) {
    this.#probe = options.probe;
    this.#batches = options.batches;
    this.#targets = options.targets;
    this.#losses = options.losses;
    this.counts = options.counts;
    this.keepers = options.keepers;
    const { mean, count } = this.mean(options.losses);
    this.tokens = count;
    this.nats = mean;
  }

  /** Scores a text. @throws {RangeError} If it has no token to predict. */
  static async measure(
    probe: ExpertProbe,
    batches: readonly TokenBatch[],
    experts: readonly Names[],
  ): Promise<TextLosses> {
    const size = probe.batchTokens;
    const targets = new Uint32Array(batches.length * size);
    batches.forEach((batch, b) => targets.set(batch.targets, b * size));
    if (!targets.some((target) => target !== NO_TARGET)) {
      throw new RangeError("The text has no token to predict");
    }
    const losses = new Float32Array(targets.length);
    const counts = new Map<number, ExpertCounts>(
      probe.layers.map((layer) => [layer.layer, emptyCounts(layer)]),
    );
    const keepers = experts.map(() => new Uint8Array(targets.length));
    // Edits by the experts that they change.
    const members = new Map<string, number[]>();
    experts.forEach((names, e) => {
      for (const [layer, list] of names) {
        for (const name of list) {
          const key = `${layer}:${name}`;
          members.set(key, [...members.get(key) ?? [], e]);
        }
      }
    });
    probe.leaveOut(new Map());
    for (const [b, batch] of batches.entries()) {
      const scored = await probe.run(batch, { choices: true });
      losses.set(scored.losses, b * size);
      for (const layer of probe.layers) {
        countExperts(counts.get(layer.layer)!, layer, scored);
        for (const { t, expert } of assignments(layer, scored)) {
          for (const e of members.get(`${layer.layer}:${expert}`) ?? []) {
            keepers[e]![b * size + t] = 1;
          }
        }
      }
    }
    return new TextLosses({ probe, batches, targets, losses, counts, keepers });
  }

  /** Change of each token's loss by what is done to the model now. */
  async changes(): Promise<Float64Array> {
    const changes = new Float64Array(this.#targets.length);
    for (const [b, batch] of this.#batches.entries()) {
      const from = b * this.#probe.batchTokens;
      const { losses } = await this.#probe.run(batch);
      losses.forEach((loss, t) => changes[from + t] = loss - this.#losses[from + t]!);
    }
    return changes;
  }

  /** Mean over the predictions, or some of them. */
  mean(
    values: ArrayLike<number>,
    of: (i: number) => boolean = () => true,
  ): { readonly mean: number; readonly count: number } {
    let [sum, count] = [0, 0];
    for (let i = 0; i < values.length; i++) {
      if (this.#targets[i] === NO_TARGET || !of(i)) continue;
      sum += values[i]!;
      count++;
    }
    return { mean: sum / count, count };
  }

  /** Changes by the token that was to be predicted. */
  byToken(changes: Float64Array): TokenChange[] {
    const sums = new Map<number, { count: number; nats: number; change: number }>();
    this.#targets.forEach((token, i) => {
      if (token === NO_TARGET) return;
      const sum = sums.get(token) ?? { count: 0, nats: 0, change: 0 };
      sum.count++;
      sum.nats += this.#losses[i]!;
      sum.change += changes[i]!;
      sums.set(token, sum);
    });
    return [...sums]
      .sort(([a, x], [b, y]) => Math.abs(y.change) - Math.abs(x.change) || a - b)
      .map(([token, { count, nats, change }]) => ({
        token,
        count,
        nats: nats / count,
        change: change / count,
      }));
  }
}

/** All experts of an edit, each once. */
function expertsOf({ without, codes = [] }: ExpertEdit): Names {
  const names = new Map(Array.from(without, ([layer, list]) => [layer, new Set(list)]));
  for (const { layer, expert } of codes) {
    names.set(layer, (names.get(layer) ?? new Set()).add(expert));
  }
  return new Map(Array.from(names, ([layer, set]) => [layer, [...set]]));
}

/** The same edit of other experts. */
function renamed(edit: ExpertEdit, { from, to }: { from: Names; to: Names }): ExpertEdit {
  const other = (layer: number, name: string) => to.get(layer)![from.get(layer)!.indexOf(name)]!;
  const { without, codes } = edit;
  return {
    name: edit.name,
    without: new Map(
      Array.from(without, ([layer, list]) => [layer, list.map((name) => other(layer, name))]),
    ),
    ...(codes && {
      codes: codes.map((each) => ({ ...each, expert: other(each.layer, each.expert) })),
    }),
  };
}

/** The router's numbers of experts. @throws {RangeError} If there is no such layer or expert. */
function numbersOf({ layers }: ExpertProbe, experts: Names): LeftOut {
  return new Map(Array.from(experts, ([number, names]) => {
    const layer = expertLayer(layers, number);
    return [number, names.map((name) => expertNumbers(layer, name))];
  }));
}

function useOf(experts: Names, counts: ReadonlyMap<number, ExpertCounts>): number {
  let use = 0;
  for (const [layer, names] of experts) {
    for (const name of names) use += counts.get(layer)?.get(name) ?? 0;
  }
  return use;
}

/** Random experts of equal use; `undefined` where a layer has too few others in use. */
function randomNames(
  experts: Names,
  counts: ReadonlyMap<number, ExpertCounts>,
  seed: number,
): Names | undefined {
  const found = new Map<number, string[]>();
  for (const [layer, names] of experts) {
    const random = equalUse(counts.get(layer)!, names, { seed: seed + layer });
    if (random.length < names.length) return undefined;
    found.set(layer, random);
  }
  return found;
}
