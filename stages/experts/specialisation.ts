/**
 * Specialisation of experts in a trace: mutual information with tokens, positions and parts of documents, and experts whose tokens are predicted worse
 * than others of their kind; each beside controls.
 *
 * Controls keep the use of every expert. `shuffled` gives each prediction the experts of another one: experts that are kept together stay together.
 * `same_token` does so among predictions from the same token: beyond it is what experts know besides the token. `random` gives each assignment an expert of
 * another assignment.
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
  /** The same of assignments that are shuffled among predictions from the same token. */
  readonly same_token: ControlSummary;
  /** The same of random experts. */
  readonly random: ControlSummary;
  /** Estimate less the mean of shuffled assignments. */
  readonly beyond_shuffled: number;
  /** Estimate less the mean of those that are shuffled among the same token. */
  readonly beyond_same_token: number;
}

/** Controls of assignments. */
const CONTROLS = ["shuffled", "same_token", "random"] as const;
type Control = typeof CONTROLS[number];

/** Makes the table of labels. */
async function makeTables(trace: TraceFile): Promise<void> {
  await trace.run(`
    CREATE OR REPLACE TEMP TABLE labels AS
    SELECT prediction, token, target, position, (10 * place // (1 + max(place) OVER (PARTITION BY document)))::UINTEGER AS part,
      loss::DOUBLE - avg(loss::DOUBLE) OVER (PARTITION BY target) AS excess
    FROM tokens`);
}

/** Makes the permutations of predictions that controls read: `shuffled`, and `same_token` among predictions from the same token. */
async function permute(trace: TraceFile, seed: number): Promise<void> {
  for (const [table, first] of [["shuffled", ""], ["same_token", "token, "]]) {
    const order = (by: string) => `row_number() OVER (ORDER BY ${first}${by}prediction) AS r`;
    await trace.run(`
      CREATE OR REPLACE TEMP TABLE ${table} AS
      SELECT a.prediction AS prediction, b.prediction AS other
      FROM (SELECT prediction, ${order("")} FROM tokens) a
      JOIN (SELECT prediction, ${order(`hash(prediction, ${seed}), `)} FROM tokens) b USING (r)`);
  }
}

/** Assignments of a layer as they are, or under a control: columns `expert` and `prediction`. */
function assigned(layer: number, control: "none" | Control, seed: number): string {
  const own = `SELECT expert, prediction FROM choices WHERE layer = ${layer}`;
  if (control === "none") return own;
  if (control !== "random") {
    return `SELECT c.expert AS expert, o.other AS prediction FROM (${own}) c JOIN ${control} o USING (prediction)`;
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
  const controlled = new Map<string, Record<Control, number[]>>();
  const of = (layer: number, label: Label) => {
    const key = `${layer} ${label}`;
    const found = controlled.get(key) ?? { shuffled: [], same_token: [], random: [] };
    controlled.set(key, found);
    return found;
  };
  for (let c = 0; c < controls; c++) {
    await permute(trace, seed + c);
    for (const layer of layers) {
      for (const label of LABELS) {
        for (const control of CONTROLS) {
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
      const { shuffled, same_token, random } = of(layer, label);
      const [mean, same] = [summarise(shuffled), summarise(same_token)];
      found.push({
        layer,
        label,
        ...own,
        shuffled: mean,
        same_token: same,
        random: summarise(random),
        beyond_shuffled: own.plugin - mean.mean,
        beyond_same_token: own.plugin - same.mean,
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

/** Numbers of controls. */
export interface ErrorControls {
  readonly above: ControlSummary;
  readonly below: ControlSummary;
  readonly largest: ControlSummary;
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
  readonly shuffled: ErrorControls;
  /** The same of assignments that are shuffled among predictions from the same token, some of which are harder than others. */
  readonly same_token: ErrorControls;
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
  const controlled = new Map<string, ReturnType<typeof counted>[]>();
  for (let c = 0; c < controls; c++) {
    await permute(trace, seed + c);
    for (const layer of layers) {
      for (const control of ["shuffled", "same_token"] as const) {
        const key = `${layer} ${control}`;
        const found = counted(await scores(assigned(layer, control, seed + c)));
        controlled.set(key, [...controlled.get(key) ?? [], found]);
      }
    }
  }
  for (const layer of layers) {
    const rows = await scores(assigned(layer, "none", seed));
    const name = await trace.expertNames(layer);
    const control = (control: "shuffled" | "same_token"): ErrorControls => {
      const values = controlled.get(`${layer} ${control}`)!;
      const of = (key: keyof ErrorControls) => summarise(values.map((each) => each[key]));
      return { above: of("above"), below: of("below"), largest: of("largest") };
    };
    found.push({
      layer,
      experts: rows.length,
      ...counted(rows),
      shuffled: control("shuffled"),
      same_token: control("same_token"),
      worst: rows.slice(0, most).map(({ expert, ...rest }) => ({
        layer,
        expert: name(expert),
        ...rest,
      })),
    });
  }
  return found;
}
