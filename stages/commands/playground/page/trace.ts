/**
 * The experts that the tokens of one text kept, and the hottest of a layer side by side.
 *
 * @module
 */

import type { PassChoices } from "../../../../model/inference/generator.ts";
import { type ExpertLayer, expertName } from "../../../../model/interpret/expert_layers.ts";

/** A token that was read. */
interface Row {
  readonly token: number;
  /** Whether the model made it, or it is of the prompt. */
  readonly made: boolean;
  /** Weight of each kept expert by name; one map a layer. */
  readonly weights: readonly ReadonlyMap<string, number>[];
}

/** A layer's hottest experts over the tokens that were read. */
export interface HeatMap {
  /** The hottest experts, by weight over all tokens, the hottest first. */
  readonly experts: readonly {
    readonly name: string;
    /** Its part of all experts' weight, 0 to 1. */
    readonly share: number;
    /** Tokens that kept it. */
    readonly tokens: number;
  }[];
  readonly rows: readonly {
    /** Place in the text, from 0. */
    readonly place: number;
    readonly token: number;
    readonly made: boolean;
    /** Weight of each of the experts; 0 where the token did not keep it. */
    readonly weights: readonly number[];
    /** Weight of the experts that are not among them. */
    readonly others: number;
  }[];
  /** The largest weight of a cell. */
  readonly largest: number;
  /** Experts that any token kept. */
  readonly used: number;
}

/** The experts of one text. */
export class Trace {
  readonly #layers: readonly ExpertLayer[];
  #rows: Row[] = [];
  /** Tokens that were read before the context slid. */
  #gone = 0;

  /** @param layers Those with experts. */
  constructor(layers: readonly ExpertLayer[]) {
    this.#layers = layers;
  }

  /** Tokens that it has. */
  get length(): number {
    return this.#rows.length;
  }

  /**
   * Adds a pass.
   *
   * @param text `prompt`: its first tokens that are not the model's; `capacity`: of the generator.
   */
  add(
    { position, tokens, layers }: PassChoices,
    { prompt, capacity }: { readonly prompt: number; readonly capacity: number },
  ): void {
    if (position === 0 && this.#rows.length > 0) {
      // The context was full: its last half, which ends with a new token, is read anew (`generateText`).
      this.#gone += this.#rows.length + 1 - Math.max(1, capacity >> 1);
      this.#rows = [];
    }
    for (const [t, token] of tokens.entries()) {
      this.#rows.push({
        token,
        made: this.#gone + this.#rows.length >= prompt,
        weights: this.#layers.map((layer) => {
          const found = layers.find(({ at }) => at === layer.at);
          return found === undefined ? new Map() : keptBy(t, layer, found);
        }),
      });
    }
  }

  /**
   * The hottest experts of a layer.
   *
   * @param number The layer's number.
   * @param options `experts`: columns at most; `rows`: the last tokens of the text, at most.
   */
  heatMap(number: number, options: { readonly experts: number; readonly rows: number }): HeatMap {
    const at = this.#layers.findIndex(({ layer }) => layer === number);
    const totals = new Map<string, { weight: number; tokens: number }>();
    let whole = 0;
    for (const { weights } of this.#rows) {
      for (const [name, weight] of weights[at] ?? []) {
        const total = totals.get(name) ?? { weight: 0, tokens: 0 };
        totals.set(name, { weight: total.weight + weight, tokens: total.tokens + 1 });
        whole += weight;
      }
    }
    // Of equals the one that was kept first.
    const experts = [...totals].sort(([, a], [, b]) => b.weight - a.weight)
      .slice(0, options.experts)
      .map(([name, { weight, tokens }]) => ({ name, share: weight / whole, tokens }));
    const first = Math.max(0, this.#rows.length - options.rows);
    let largest = 0;
    const rows = this.#rows.slice(first).map(({ token, made, weights }, i) => {
      const kept = weights[at] ?? new Map<string, number>();
      const shown = experts.map(({ name }) => kept.get(name) ?? 0);
      let others = 0;
      for (const weight of kept.values()) others += weight;
      for (const weight of shown) {
        others -= weight;
        largest = Math.max(largest, weight);
      }
      const all = shown.filter((weight) => weight > 0).length === kept.size;
      const place = this.#gone + first + i;
      return { place, token, made, weights: shown, others: all ? 0 : others };
    });
    return { experts, rows, largest, used: totals.size };
  }
}

/** Weight of each expert that token `t` of a pass kept; two heads may keep the same. */
function keptBy(
  t: number,
  layer: ExpertLayer,
  { index, weight }: PassChoices["layers"][number],
): Map<string, number> {
  const kept = new Map<string, number>();
  for (let at = t * layer.kept; at < (t + 1) * layer.kept; at++) {
    const value = weight[at]!;
    if (value === 0) continue;
    const name = expertName(layer, index, at * layer.axes);
    kept.set(name, (kept.get(name) ?? 0) + value);
  }
  return kept;
}
