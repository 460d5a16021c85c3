/**
 * The use of experts in a trace: coverage of a layer, and the contexts that activate an expert most.
 *
 * @module
 */

import { expertUnevenness } from "../../model/inference/usage_statistics.ts";
import type { ExpertLayer } from "../../model/interpret/expert_layers.ts";
import type { TraceFile } from "./trace_file.ts";

/** How the experts of a layer are used. */
export interface LayerUse {
  readonly layer: number;
  readonly kind: string;
  readonly experts: number;
  readonly kept: number;
  /** Pairs of a token and a kept expert. */
  readonly assignments: number;
  /** Experts that were kept at least once. */
  readonly used: number;
  /** Experts that would be, by chance, with as many assignments. */
  readonly used_by_chance: number;
  /** Experts that half of the assignments go to, at least. */
  readonly half: number;
  /** Divergence of the used experts from even use of all, nats; `null` behind beams, whose experts are not all counted. */
  readonly unevenness: number | null;
}

/** The most used experts, with their counts. */
export interface UsedExpert {
  /** Number in the trace. */
  readonly number: number;
  readonly name: string;
  readonly uses: number;
  /** Sum of the weights. */
  readonly weight: number;
}

/** Experts of a layer by use, the most used first; ties go to the lower number. */
export async function usedExperts(trace: TraceFile, layer: number): Promise<UsedExpert[]> {
  const name = await trace.expertNames(layer);
  const rows = await trace.query(
    `SELECT expert, count(*) AS uses, sum(weight::DOUBLE) AS weight FROM choices WHERE layer = ${layer} GROUP BY expert ORDER BY uses DESC, expert`,
  );
  return rows.map(({ expert, uses, weight }) => ({
    number: Number(expert),
    name: name(Number(expert)),
    uses: Number(uses),
    weight: Number(weight),
  }));
}

/** Most experts of which a list of counts is made. */
const COUNTED = 2 ** 22;

/** Coverage of a layer, from its used experts. */
export function layerUse(layer: ExpertLayer, used: readonly UsedExpert[]): LayerUse {
  const { experts, kept, kind } = layer;
  const assignments = used.reduce((sum, { uses }) => sum + uses, 0);
  let [half, sum] = [0, 0];
  while (sum < assignments / 2) sum += used[half++]!.uses;
  const counts = layer.axes === 1 && experts <= COUNTED ? new Uint32Array(experts) : undefined;
  if (counts) { for (const { number, uses } of used) counts[number] = uses; }
  return {
    layer: layer.layer,
    kind,
    experts,
    kept,
    assignments,
    used: used.length,
    // log1p and expm1, for experts behind beams may be more than 2^53.
    used_by_chance: -experts * Math.expm1(assignments * Math.log1p(-1 / Math.max(experts, 2))),
    half,
    unevenness: counts ? expertUnevenness(counts) : null,
  };
}

/** A place where an expert was kept. */
export interface Context {
  readonly sequence: number;
  readonly position: number;
  readonly token: string;
  readonly weight: number;
  /** Text before the token, and behind it. */
  readonly before: string;
  readonly after: string;
}

/** A used expert with the tokens that it is kept for most. */
export interface ListedExpert {
  readonly expert: string;
  readonly uses: number;
  readonly mean_weight: number;
  /** Text and share of its uses. */
  readonly tokens: readonly { readonly token: string; readonly share: number }[];
}

/** Lists experts of a layer with their three most frequent tokens. */
export async function listExperts(
  trace: TraceFile,
  { layer, experts, text }: {
    readonly layer: number;
    readonly experts: readonly UsedExpert[];
    text(token: number): string;
  },
): Promise<ListedExpert[]> {
  const least = experts.reduce((least, { uses }) => Math.min(least, uses), Infinity);
  if (experts.length === 0) return [];
  const rows = await trace.query(`
    WITH used AS (SELECT expert FROM choices WHERE layer = ${layer} GROUP BY expert HAVING count(*) >= ${least}),
      cells AS (
        SELECT expert, token, count(*) AS n, row_number() OVER (PARTITION BY expert ORDER BY count(*) DESC, token) AS place
        FROM choices JOIN used USING (expert) WHERE layer = ${layer} GROUP BY expert, token)
    SELECT expert, token, n FROM cells WHERE place <= 3 ORDER BY expert, place`);
  const tokens = Map.groupBy(rows, ({ expert }) => Number(expert));
  return experts.map(({ number, name, uses, weight }) => ({
    expert: name,
    uses,
    mean_weight: weight / uses,
    tokens: (tokens.get(number) ?? []).map(({ token, n }) => ({
      token: text(Number(token)),
      share: Number(n) / uses,
    })),
  }));
}

/** An expert with its contexts. */
export interface ExpertContexts {
  readonly layer: number;
  readonly expert: string;
  readonly uses: number;
  readonly mean_weight: number;
  /** How much the token says that the expert is kept, beyond the text's tokens: Kullback–Leibler divergence with Miller and Madow's correction, nats. */
  readonly specificity: number;
  /** By weight. */
  readonly contexts: readonly Context[];
  /** Tokens that it is kept for most: text and share of its uses. */
  readonly tokens: readonly { readonly token: string; readonly share: number }[];
}

/** Reads the text around a token. */
export interface TextAround {
  (place: { readonly sequence: number; readonly position: number }): {
    readonly token: string;
    readonly before: string;
    readonly after: string;
  };
}

/** How far from the text's the tokens of experts are, for those with enough uses; sorted by it. */
export async function specificities(
  trace: TraceFile,
  options: { readonly layer: number; readonly least_uses: number },
): Promise<{ readonly number: number; readonly specificity: number }[]> {
  const { layer, least_uses } = options;
  const rows = await trace.query(`
    WITH text AS (SELECT token, count(*) / (SELECT count(*) FROM tokens) AS p FROM tokens GROUP BY token),
      cells AS (SELECT expert, token, count(*) AS n FROM choices WHERE layer = ${layer} GROUP BY expert, token),
      sums AS (SELECT expert, sum(n) AS uses FROM cells GROUP BY expert HAVING sum(n) >= ${least_uses})
    SELECT expert, sum(n / uses * ln(n / uses / p)) - (count(*) - 1) / (2 * any_value(uses)) AS specificity
    FROM cells JOIN sums USING (expert) JOIN text USING (token)
    GROUP BY expert ORDER BY specificity DESC, expert`);
  return rows.map(({ expert, specificity }) => ({
    number: Number(expert),
    specificity: Number(specificity),
  }));
}

/** Contexts of some experts of a layer, the heaviest first. */
export async function contextsOf(
  trace: TraceFile,
  options: {
    readonly layer: number;
    readonly experts: readonly UsedExpert[];
    readonly specificity: ReadonlyMap<number, number>;
    readonly contexts: number;
    readonly around: TextAround;
    text(token: number): string;
  },
): Promise<ExpertContexts[]> {
  const { layer, experts, specificity, contexts, around, text } = options;
  if (experts.length === 0) return [];
  const list = experts.map(({ number }) => number).join(", ");
  const of = `layer = ${layer} AND expert IN (${list})`;
  const places = await trace.query(`
    SELECT expert, sequence, c.position AS position, weight
    FROM (SELECT expert, prediction, position, max(weight) AS weight FROM choices WHERE ${of} GROUP BY expert, prediction, position) c
    JOIN tokens USING (prediction)
    QUALIFY row_number() OVER (PARTITION BY expert ORDER BY weight DESC, prediction) <= ${contexts}
    ORDER BY expert, weight DESC, prediction`);
  const tokens = await trace.query(`
    SELECT expert, token, count(*) AS n FROM choices WHERE ${of} GROUP BY expert, token
    QUALIFY row_number() OVER (PARTITION BY expert ORDER BY n DESC, token) <= 5
    ORDER BY expert, n DESC, token`);
  return experts.map(({ number, name, uses, weight }) => ({
    layer,
    expert: name,
    uses,
    mean_weight: weight / uses,
    specificity: specificity.get(number) ?? NaN,
    contexts: places.filter(({ expert }) => Number(expert) === number).map((place) => {
      const at = { sequence: Number(place["sequence"]), position: Number(place["position"]) };
      return { ...at, weight: Number(place["weight"]), ...around(at) };
    }),
    tokens: tokens.filter(({ expert }) => Number(expert) === number).map(({ token, n }) => ({
      token: text(Number(token)),
      share: Number(n) / uses,
    })),
  }));
}
