/**
 * Specialisation of experts in a trace: mutual information with tokens, positions and parts of documents, and experts whose tokens are predicted worse
 * than others of their kind; each beside controls.
 *
 * Two controls keep the use of every expert. `shuffled` gives each token the experts of another token: experts that a token keeps together stay together.
 * `random` gives each assignment an expert of another assignment.
 *
 * @module
 */

import {
  type ControlSummary,
  type Information,
  mutualInformation,
  type PairSums,
  summarise,
} from "../../model/interpret/information.ts";
import type { TraceFile } from "./trace_file.ts";

/** Labels of a token that experts may go with. */
export const LABELS = ["token", "target", "position", "part"] as const;

/** One of them. */
export type Label = typeof LABELS[number];

/** Names of {@linkcode LABELS} in text. */
export const LABEL_NAMES: Readonly<Record<Label, string>> = {
  token: "token",
  target: "next token",
  position: "position in the sequence",
  part: "tenth of the document",
};

/** Mutual information of a layer's experts with a label. */
export interface Specialisation extends Information {
  readonly layer: number;
  readonly label: Label;
  /** The same of shuffled assignments, from the counts as they are. */
  readonly shuffled: ControlSummary;
  /** The same of random experts. */
  readonly random: ControlSummary;
  /** Estimate less the mean of shuffled assignments. */
  readonly beyond_shuffled: number;
}

/** Makes the tables that controls read: `labels`, and for each control a permutation of tokens, `other`. */
async function makeTables(trace: TraceFile): Promise<void> {
  await trace.run(`
    CREATE OR REPLACE TEMP TABLE labels AS
    SELECT prediction, token, target, position, (10 * place // (1 + max(place) OVER (PARTITION BY document)))::UINTEGER AS part,
      loss::DOUBLE - avg(loss::DOUBLE) OVER (PARTITION BY target) AS excess
    FROM tokens`);
}

async function permute(trace: TraceFile, seed: number): Promise<void> {
  await trace.run(`
    CREATE OR REPLACE TEMP TABLE other AS
    SELECT a.prediction AS prediction, b.prediction AS other
    FROM (SELECT prediction, row_number() OVER (ORDER BY prediction) AS r FROM tokens) a
    JOIN (SELECT prediction, row_number() OVER (ORDER BY hash(prediction, ${seed}), prediction) AS r FROM tokens) b
    USING (r)`);
}

/** Assignments of a layer as they are, or under a control: columns `expert` and `prediction`. */
function assigned(layer: number, control: "none" | "shuffled" | "random", seed: number): string {
  const own = `SELECT expert, prediction FROM choices WHERE layer = ${layer}`;
  if (control === "none") return own;
  if (control === "shuffled") {
    return `SELECT c.expert AS expert, o.other AS prediction FROM (${own}) c JOIN other o USING (prediction)`;
  }
  const key = `hash(prediction, slot, ${seed})`;
  return `
    SELECT a.expert AS expert, b.prediction AS prediction
    FROM (SELECT expert, row_number() OVER (ORDER BY ${key}, prediction, slot) AS r FROM choices WHERE layer = ${layer}) a
    JOIN (SELECT prediction, row_number() OVER (ORDER BY prediction, slot) AS r FROM choices WHERE layer = ${layer}) b USING (r)`;
}

async function pairSums(trace: TraceFile, pairs: string, label: Label): Promise<PairSums> {
  await trace.run(`
    CREATE OR REPLACE TEMP TABLE cells AS
    SELECT expert, ${label} AS label, count(*) AS n FROM (${pairs}) p JOIN labels USING (prediction) GROUP BY ALL`);
  const sums = async (by: string) => {
    const [row] = await trace.query(`
      SELECT count(*) AS labels, sum(n * ln(n)) AS n_log_n, sum(n)::DOUBLE AS pairs
      FROM (SELECT sum(n)::DOUBLE AS n FROM cells GROUP BY ${by} ORDER BY ${by})`);
    return {
      labels: Number(row!["labels"]),
      n_log_n: Number(row!["n_log_n"]),
      pairs: Number(row!["pairs"]),
    };
  };
  const both = await sums("expert, label");
  return { pairs: both.pairs, x: await sums("expert"), y: await sums("label"), both };
}

/** Mutual information of every layer's experts with every label. */
export async function specialisations(
  trace: TraceFile,
  options: { readonly layers: readonly number[]; readonly controls: number; readonly seed: number },
): Promise<Specialisation[]> {
  const { layers, controls, seed } = options;
  await makeTables(trace);
  const found: Specialisation[] = [];
  const controlled = new Map<string, { shuffled: number[]; random: number[] }>();
  const of = (layer: number, label: Label) => {
    const key = `${layer} ${label}`;
    if (!controlled.has(key)) controlled.set(key, { shuffled: [], random: [] });
    return controlled.get(key)!;
  };
  for (let c = 0; c < controls; c++) {
    await permute(trace, seed + c);
    for (const layer of layers) {
      for (const label of LABELS) {
        for (const control of ["shuffled", "random"] as const) {
          const sums = await pairSums(trace, assigned(layer, control, seed + c), label);
          of(layer, label)[control].push(mutualInformation(sums).plugin);
        }
      }
    }
  }
  for (const layer of layers) {
    for (const label of LABELS) {
      const own = mutualInformation(
        await pairSums(trace, assigned(layer, "none", seed), label),
      );
      const { shuffled, random } = of(layer, label);
      const mean = summarise(shuffled);
      found.push({
        layer,
        label,
        ...own,
        shuffled: mean,
        random: summarise(random),
        beyond_shuffled: own.plugin - mean.mean,
      });
    }
  }
  return found;
}

/** An expert whose tokens are predicted worse, or better, than such tokens are. */
export interface ErrorExpert {
  readonly layer: number;
  readonly expert: string;
  readonly uses: number;
  /** Mean of the loss less the mean loss of the same next token, nats. */
  readonly excess: number;
  /** The same over its standard error. */
  readonly z: number;
}

/** Experts and errors in one layer. */
export interface LayerErrors {
  readonly layer: number;
  /** Experts with enough uses. */
  readonly experts: number;
  /** Experts more than three standard errors above the mean, and below. */
  readonly above: number;
  readonly below: number;
  /** The largest z. */
  readonly largest: number;
  /** The same of shuffled assignments. */
  readonly shuffled: {
    readonly above: ControlSummary;
    readonly below: ControlSummary;
    readonly largest: ControlSummary;
  };
  /** Those with the largest z. */
  readonly worst: readonly ErrorExpert[];
}

/** Standard errors from which an expert counts. */
const Z = 3;

/** Experts most associated with errors: losses above the mean of the same next token. */
export async function errorExperts(
  trace: TraceFile,
  options: {
    readonly layers: readonly number[];
    readonly controls: number;
    readonly seed: number;
    readonly least_uses: number;
    readonly most: number;
  },
): Promise<LayerErrors[]> {
  const { layers, controls, seed, least_uses, most } = options;
  await makeTables(trace);
  // An expert that two heads keep for a token counts once.
  const scores = async (pairs: string) =>
    (await trace.query(`
      SELECT expert, count(*) AS uses, avg(excess) AS excess, avg(excess) / (stddev_samp(excess) / sqrt(count(*))) AS z
      FROM (SELECT DISTINCT expert, prediction FROM (${pairs})) JOIN labels USING (prediction)
      GROUP BY expert HAVING count(*) >= ${least_uses} AND stddev_samp(excess) > 0
      ORDER BY z DESC, expert`)).map((row) => ({
      expert: Number(row["expert"]),
      uses: Number(row["uses"]),
      excess: Number(row["excess"]),
      z: Number(row["z"]),
    }));
  const counted = (rows: readonly { readonly z: number }[]) => ({
    above: rows.filter(({ z }) => z > Z).length,
    below: rows.filter(({ z }) => z < -Z).length,
    largest: rows[0]?.z ?? 0,
  });
  const found: LayerErrors[] = [];
  const shuffled = new Map<number, ReturnType<typeof counted>[]>(layers.map((n) => [n, []]));
  for (let c = 0; c < controls; c++) {
    await permute(trace, seed + c);
    for (const layer of layers) {
      const pairs = assigned(layer, "shuffled", seed + c);
      shuffled.get(layer)!.push(counted(await scores(pairs)));
    }
  }
  for (const layer of layers) {
    const rows = await scores(assigned(layer, "none", seed));
    const name = await trace.expertNames(layer);
    const control = (of: "above" | "below" | "largest") =>
      summarise(shuffled.get(layer)!.map((each) => each[of]));
    found.push({
      layer,
      experts: rows.length,
      ...counted(rows),
      shuffled: { above: control("above"), below: control("below"), largest: control("largest") },
      worst: rows.slice(0, most).map(({ expert, ...rest }) => ({
        layer,
        expert: name(expert),
        ...rest,
      })),
    });
  }
  return found;
}
