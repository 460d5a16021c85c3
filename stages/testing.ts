/**
 * A `StageContext` in memory and a temporary folder, to run one stage in a test.
 *
 * @module
 */

import { join } from "@std/path";
import {
  type JsonValue,
  type MetricRow,
  type MetricValues,
  type NodeOutput,
  SAMPLES_FILE,
  type Stage,
  type StageContext,
} from "../pipeline/stage.ts";
import { SampleTable } from "../pipeline/store/series/samples.ts";

/** The results of a stage. */
export interface StageRun {
  /** Its output, as the next stage sees it. */
  readonly output: NodeOutput;
  /** Its `json` outputs. */
  readonly json: Readonly<Record<string, JsonValue>>;
  /** Its `measured` outputs. */
  readonly measured: Readonly<Record<string, JsonValue>>;
  /** Its metrics. */
  readonly metrics: readonly MetricRow[];
  /** Texts that it told of, again those that it repeated after a resume. */
  readonly samples: readonly { readonly step: number; readonly text: string }[];
  /** Lines that it logged: `info: …` and `warn: …`. */
  readonly log: readonly string[];
  /** Every progress it made. */
  readonly progress: readonly { done: number; total: number; remark?: string }[];
}

/** How to run a stage. */
export interface RunStageOptions {
  /** Parameters, validated by the stage's schema. */
  readonly params: JsonValue;
  /** Inputs by name. */
  readonly inputs?: Readonly<Record<string, readonly NodeOutput[]>>;
  /** Temporary folder for outputs and state; call again with the same one to resume. */
  readonly dir: string;
  /** Labels for {@linkcode NodeOutput.labels}. */
  readonly labels?: Readonly<Record<string, JsonValue>>;
  /** Aborts the run. */
  readonly signal?: AbortSignal;
}

/**
 * Runs a stage: outputs under `dir/output` (emptied first), state under `dir/state` (kept).
 *
 * @param run Runs instead of `stage.run`, to pass options that only tests pass.
 */
export async function runStage<Params>(
  stage: Stage<Params>,
  options: RunStageOptions,
  run: (context: StageContext<Params>) => Promise<void> = (context) => stage.run(context),
): Promise<StageRun> {
  const outputs = join(options.dir, "output");
  const stateDir = join(options.dir, "state");
  await Deno.remove(outputs, { recursive: true }).catch(() => {});
  await Deno.mkdir(outputs, { recursive: true });
  await Deno.mkdir(stateDir, { recursive: true });
  for (const [name, kind] of Object.entries(stage.outputs)) {
    if (kind === "directory") await Deno.mkdir(join(outputs, name));
  }
  const json: Record<string, JsonValue> = {};
  const measured: Record<string, JsonValue> = {};
  let metrics: MetricRow[] = [];
  const log: string[] = [];
  const progress: { done: number; total: number; remark?: string }[] = [];
  const declared = (name: string, kinds: readonly string[]) => {
    const kind = stage.outputs[name];
    if (!kind || !kinds.includes(kind)) {
      throw new Error(`Output ${name} of ${stage.name} is not declared as ${kinds.join(" or ")}`);
    }
  };
  const told: { step: number; text: string }[] = [];
  const kept = join(options.dir, SAMPLES_FILE);
  const samples = new SampleTable(() => kept, (step, { text }) => told.push({ step, text }));
  samples.load(await Deno.readTextFile(kept).catch(() => ""));
  const record = (measured: boolean) => (step: number, values: MetricValues) => {
    for (const [name, value] of Object.entries(values)) {
      metrics.push({ step, name, value: Number.isFinite(value) ? value : null, measured });
    }
  };
  const params = stage.params.parse(options.params);
  const inputs = options.inputs ?? {};
  await run({
    params,
    inputs,
    node: { name: stage.name, key: "0".repeat(64), run: "test" },
    output(name) {
      declared(name, ["file", "directory"]);
      return join(outputs, name);
    },
    json(name, value) {
      declared(name, ["json"]);
      // Through text, as the catalogue does.
      json[name] = JSON.parse(JSON.stringify(value));
    },
    measured(name, value) {
      declared(name, ["measured"]);
      measured[name] = JSON.parse(JSON.stringify(value));
    },
    object: (sha256) => join(options.dir, "objects", sha256),
    stateDir,
    metrics: {
      write: record(false),
      measure: record(true),
      rewind: (step) => metrics = metrics.filter((row) => row.step < step),
      flush: () => {},
    },
    samples,
    progress: (total) => ({
      update: (done, remark) =>
        progress.push({ done, total, ...(remark === undefined ? {} : { remark }) }),
    }),
    assertInKey(module) {
      const named = [stage.module, ...stage.workers ?? []];
      named.push(...stage.modules?.({ params, inputs }) ?? []);
      if (!named.includes(module)) throw new Error(`${stage.name} does not name ${module}`);
    },
    log: {
      info: (line) => void log.push(`info: ${line}`),
      warn: (line) => void log.push(`warn: ${line}`),
    },
    signal: options.signal ?? new AbortController().signal,
  });
  for (const [name, kind] of Object.entries(stage.outputs)) {
    if (kind === "json" && !(name in json) || kind === "measured" && !(name in measured)) {
      throw new Error(`${stage.name} did not publish its output ${name}`);
    }
  }
  const rows = metrics.toSorted((a, b) => a.step - b.step || (a.name < b.name ? -1 : 1));
  return {
    json,
    measured,
    metrics: rows,
    samples: told,
    log,
    progress,
    output: {
      name: stage.name,
      stage: stage.name,
      key: "0".repeat(64),
      params: options.params,
      labels: options.labels ?? {},
      json: (name) => json[name] ?? null,
      measured: (name) => measured[name] ?? null,
      file: (name, inside) => join(outputs, name, ...(inside ? [inside] : [])),
      files: (name) => listFiles(join(outputs, name)),
      metrics: () => Promise.resolve(rows),
      provenance: {},
    },
  };
}

/** Files below a folder, with `/` between folders, sorted. */
function listFiles(folder: string, prefix = ""): string[] {
  return Array.from(Deno.readDirSync(folder)).flatMap((entry) =>
    entry.isDirectory
      ? listFiles(join(folder, entry.name), `${prefix}${entry.name}/`)
      : [`${prefix}${entry.name}`]
  ).sort();
}
