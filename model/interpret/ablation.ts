/**
 * Losses with experts left out, beside those with random experts of equal use left out.
 *
 * An expert that is left out has the weight 0; the weights of a token's other experts stay as they are.
 *
 * @module
 */

import type { TokenBatch } from "../inference/token_batch.ts";
import { NO_TARGET } from "../ops/elementwise/cross_entropy.ts";
import { assignments, countExperts, equalUse, type ExpertCounts } from "./expert_counts.ts";
import { expertLayer, expertNumbers } from "./expert_layers.ts";
import { type ControlSummary, summarise } from "./information.ts";
import type { ExpertProbe, LeftOut } from "./probe.ts";

/** Experts that are left out together. */
export interface ExpertGroup {
  /** Name in results: `3:17`, `3:c2`. */
  readonly name: string;
  /** Names of the experts by layer number. */
  readonly experts: ReadonlyMap<number, readonly string[]>;
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

/** The effect of one group. */
export interface GroupEffect {
  readonly name: string;
  readonly experts: Readonly<Record<string, readonly string[]>>;
  /** Pairs of a token and one of the experts. */
  readonly use: number;
  /** Mean loss without the experts, nats, and its change. */
  readonly nats: number;
  readonly change: number;
  /** Predicting tokens that kept one of the experts, and the change of their mean loss; `null` without such tokens. */
  readonly keepers: { readonly tokens: number; readonly change: number | null };
  /** The same for random experts of equal use: changes of the mean loss, and their pairs. */
  readonly controls: {
    readonly use: readonly number[];
    readonly changes: readonly number[];
    readonly summary?: ControlSummary;
  };
  /** Tokens by how much their loss changes in sum, those that change most first. */
  readonly by_token: readonly TokenChange[];
}

/** The effects of groups on one text. */
export interface AblationResult {
  /** Predictions. */
  readonly tokens: number;
  /** Mean loss of the model as it is, nats. */
  readonly nats: number;
  readonly groups: readonly GroupEffect[];
}

/** Options of {@linkcode ablate}. */
export interface AblationOptions {
  readonly groups: readonly ExpertGroup[];
  /** Random groups beside each. */
  readonly controls: number;
  readonly seed: number;
  /** Tokens of {@linkcode GroupEffect.by_token}. */
  readonly most_tokens: number;
  /** Told before each run over the text. */
  onRun?(done: number, all: number): void;
}

/**
 * Measures groups of experts by leaving them out. The text is scored once as it is, and once for each group and each control.
 *
 * @param batches Of the probe's size. They stay in memory, as do the losses of each token.
 * @throws {RangeError} If a group names a layer without experts or an expert that does not exist, or is larger than the probe's list.
 */
export async function ablate(
  probe: ExpertProbe,
  batches: readonly TokenBatch[],
  options: AblationOptions,
): Promise<AblationResult> {
  const { groups, controls, seed, most_tokens, onRun } = options;
  const leftOut = groups.map(({ experts }) => numbersOf(probe, experts));
  const all = 1 + groups.length * (1 + controls);
  let run = 0;
  const score = async (experts: LeftOut, choices = false) => {
    onRun?.(run++, all);
    probe.leaveOut(experts);
    const scored = [];
    for (const batch of batches) scored.push(await probe.run(batch, { choices }));
    return scored;
  };
  const targets = batches.flatMap((batch) => Array.from(batch.targets));
  const predicted = targets.filter((target) => target !== NO_TARGET).length;
  if (predicted === 0) throw new RangeError("The text has no token to predict");
  const losses = new Float32Array(targets.length);
  const counts = new Map<number, ExpertCounts>(probe.layers.map(({ layer }) => [layer, new Map()]));
  const keepers = groups.map(() => new Uint8Array(targets.length));
  const members = groups.map(({ experts }) =>
    new Map(Array.from(experts, ([layer, names]) => [layer, new Set(names)]))
  );
  onRun?.(run++, all);
  probe.leaveOut(new Map());
  try {
    for (const [b, batch] of batches.entries()) {
      const from = b * probe.batchTokens;
      const scored = await probe.run(batch, { choices: true });
      losses.set(scored.losses, from);
      for (const layer of probe.layers) {
        countExperts(counts.get(layer.layer)!, layer, scored);
        for (const { t, expert } of assignments(layer, scored)) {
          members.forEach((member, g) => {
            if (member.get(layer.layer)?.has(expert)) keepers[g]![from + t] = 1;
          });
        }
      }
    }
    const changesOf = async (experts: LeftOut) => {
      const scored = await score(experts);
      const changes = new Float64Array(targets.length);
      for (const [b, batch] of scored.entries()) {
        const from = b * probe.batchTokens;
        batch.losses.forEach((loss, t) => changes[from + t] = loss - losses[from + t]!);
      }
      return changes;
    };
    const meanOf = (values: ArrayLike<number>, of: (i: number) => boolean) => {
      let [sum, count] = [0, 0];
      for (let i = 0; i < values.length; i++) {
        if (targets[i] === NO_TARGET || !of(i)) continue;
        sum += values[i]!;
        count++;
      }
      return { mean: sum / count, count };
    };
    const nats = meanOf(losses, () => true).mean;
    const effects: GroupEffect[] = [];
    for (const [g, group] of groups.entries()) {
      const changes = await changesOf(leftOut[g]!);
      const change = meanOf(changes, () => true).mean;
      const kept = meanOf(changes, (i) => keepers[g]![i] === 1);
      const found: { use: number; change: number }[] = [];
      for (let c = 0; c < controls; c++) {
        const random = randomGroup(group, counts, seed + 7919 * (g * controls + c));
        if (random === undefined) break;
        const changes = await changesOf(numbersOf(probe, random));
        found.push({ use: useOf(random, counts), change: meanOf(changes, () => true).mean });
      }
      effects.push({
        name: group.name,
        experts: Object.fromEntries(group.experts),
        use: useOf(group.experts, counts),
        nats: nats + change,
        change,
        keepers: { tokens: kept.count, change: kept.count > 0 ? kept.mean : null },
        controls: {
          use: found.map(({ use }) => use),
          changes: found.map((each) => each.change),
          ...(found.length > 0 && { summary: summarise(found.map((each) => each.change)) }),
        },
        by_token: byToken({ targets, losses, changes }).slice(0, most_tokens),
      });
    }
    return { tokens: predicted, nats, groups: effects };
  } finally {
    probe.leaveOut(new Map());
  }
}

/** The router's numbers of experts. @throws {RangeError} If there is no such layer or expert. */
function numbersOf(
  { layers }: ExpertProbe,
  experts: ReadonlyMap<number, readonly string[]>,
): LeftOut {
  return new Map(Array.from(experts, ([number, names]) => {
    const layer = expertLayer(layers, number);
    return [number, names.map((name) => expertNumbers(layer, name))];
  }));
}

function useOf(
  experts: ReadonlyMap<number, readonly string[]>,
  counts: ReadonlyMap<number, ExpertCounts>,
): number {
  let use = 0;
  for (const [layer, names] of experts) {
    for (const name of names) use += counts.get(layer)?.get(name) ?? 0;
  }
  return use;
}

/** Random experts of equal use; `undefined` where a layer has too few others. */
function randomGroup(
  group: ExpertGroup,
  counts: ReadonlyMap<number, ExpertCounts>,
  seed: number,
): ReadonlyMap<number, readonly string[]> | undefined {
  const found = new Map<number, string[]>();
  for (const [layer, names] of group.experts) {
    const random = equalUse(counts.get(layer)!, names, { seed: seed + layer });
    if (random.length < names.length) return undefined;
    found.set(layer, random);
  }
  return found;
}

function byToken({ targets, losses, changes }: {
  readonly targets: readonly number[];
  readonly losses: Float32Array;
  readonly changes: Float64Array;
}): TokenChange[] {
  const sums = new Map<number, { count: number; nats: number; change: number }>();
  targets.forEach((token, i) => {
    if (token === NO_TARGET) return;
    const sum = sums.get(token) ?? { count: 0, nats: 0, change: 0 };
    sum.count++;
    sum.nats += losses[i]!;
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
