/**
 * The executor of this process: it gives a stage its context and publishes the outputs that the stage wrote.
 *
 * @module
 */

import { join } from "@std/path";
import type { Publication } from "../store/catalogue/catalogue.ts";
import { moduleName } from "../graph/code.ts";
import { UserError } from "../errors.ts";
import { listFiles, remove } from "../store/files.ts";
import { toJson } from "../graph/key.ts";
import { encodeMetrics, FLUSH_MILLISECONDS, MetricTable } from "../store/series/metrics.ts";
import { PublishedNode } from "../store/node_output.ts";
import { SampleTable } from "../store/series/samples.ts";
import type { ObjectOrigin, ObjectRef, ObjectStat } from "../store/objects.ts";
import type { DisplayBar } from "../terminal/progress.ts";
import type { Executor, Job } from "./executor.ts";
import {
  isPublication,
  measuredDigest,
  measuredOutput,
  type MetricsRef,
  type NodeRecord,
  outputsDigest,
  type PublishedOutput,
  type TreeEntry,
} from "../store/records/records.ts";
import {
  type JsonValue,
  type MetricRow,
  type NodeOutput,
  type OutputKind,
  SAMPLES_FILE,
  type StageContext,
} from "../stage.ts";

/** Metrics file in a state folder; `pipeline/dashboard` reads it while the node runs. */
export const METRICS = "metrics.csv";
/** The stage's own folder in a state folder. */
const FILES = "files";

/** Runs nodes in this process, one `gpu` node at a time. */
export const inline: Executor = { gpus: 1, run };

/** Runs nodes in this process, and so many `gpu` nodes at a time as are told when the first is due. */
export function inlineExecutor(gpus: () => Promise<number>): Executor {
  return { gpus, run };
}

async function run(job: Job): Promise<NodeRecord> {
  const { node, key, store, display, signal } = job;
  await using _claim = await store.claim(key, {
    node: node.name,
    run: job.run,
    signal,
    waits: (whose) => display.line(`${node.name}: waits for ${whose}, which runs it`),
  });
  const published = await publishedMeanwhile(job);
  if (published !== undefined) return published;
  if (job.fresh) await store.discardState(key);
  const work = new Attempt(job);
  try {
    await work.resume();
    {
      using _ = work.keepMetrics();
      await job.node.stage.run(work.context());
    }
    return await work.publish();
  } finally {
    await work.tidy();
  }
}

/** A record that a job of an earlier run published before this one had its claim. */
async function publishedMeanwhile({ key, store, replaces }: Job): Promise<NodeRecord | undefined> {
  const record = await store.records.readNode(key);
  if (record === undefined) return undefined;
  return isPublication(record, replaces) ? undefined : await store.takeIn(key);
}

class Attempt {
  readonly #options: Job;
  readonly #started = new Date();
  readonly #dir: string;
  readonly #state: string;
  readonly #paths = new Map<string, string>();
  readonly #values = new Map<string, JsonValue>();
  readonly #metrics: MetricTable;
  readonly #samples: SampleTable;
  readonly #provenance: Record<string, JsonValue> = {};
  readonly #bars: DisplayBar[] = [];
  readonly #objects: (ObjectRef & ObjectStat)[] = [];

  constructor(options: Job) {
    this.#options = options;
    this.#dir = join(options.store.outputs, crypto.randomUUID());
    this.#state = options.store.stateDir(options.key);
    const inState = (name: string) => () => {
      Deno.mkdirSync(this.#state, { recursive: true });
      return join(this.#state, name);
    };
    const { display, node } = options;
    this.#metrics = new MetricTable(inState(METRICS));
    this.#samples = new SampleTable(
      inState(SAMPLES_FILE),
      (step, { prompt, text }) => display.sample(node.name, { step, prompt, text }),
    );
  }

  /** Takes up the metrics and samples that a killed attempt kept. */
  async resume(): Promise<void> {
    const { store, key } = this.#options;
    const metrics = await store.readState(key, METRICS);
    if (metrics !== undefined) this.#metrics.load(metrics);
    const samples = await store.readState(key, SAMPLES_FILE);
    if (samples !== undefined) this.#samples.load(samples);
  }

  /** Flushes metrics every second until it is disposed. */
  keepMetrics(): Disposable {
    const timer = setInterval(() => this.#metrics.flushOld(), FLUSH_MILLISECONDS / 2);
    return { [Symbol.dispose]: () => clearInterval(timer) };
  }

  context(): StageContext<unknown> {
    const { node, key, run, store, inputs, display, signal } = this.#options;
    const published: Record<string, readonly NodeOutput[]> = {};
    for (const [name, list] of Object.entries(node.inputs)) {
      published[name] = list.map((input) => new PublishedNode(input, inputs.get(input)!, store));
    }
    const files = join(this.#state, FILES);
    return {
      params: node.parsed,
      inputs: published,
      node: { name: node.name, key, run },
      output: (name) => this.#output(name),
      json: (name, value) => this.#keep(name, value, "json"),
      measured: (name, value) => this.#keep(name, value, "measured"),
      object: (sha256) => store.objects.path(sha256),
      // Made when asked for: most nodes have nothing to keep.
      get stateDir() {
        Deno.mkdirSync(files, { recursive: true });
        return files;
      },
      metrics: this.#metrics,
      samples: this.#samples,
      progress: (total, options) => {
        const bar = display.bar(node.name, total, options?.unit ?? "");
        this.#bars.push(bar);
        return bar;
      },
      provenance: (values) => {
        Object.assign(this.#provenance, toJson(values, `provenance of ${node.name}`));
      },
      assertInKey: (module) => this.#assertInKey(module),
      log: {
        info: (message) => display.line(`${node.name}: ${message}`),
        warn: (message) => display.line(`${node.name}: warning: ${message}`),
      },
      signal,
    };
  }

  #assertInKey(module: string): void {
    const { node, components, root } = this.#options;
    const name = moduleName(module, root);
    if (Object.hasOwn(components.code.files, name)) return;
    throw new Error(
      `${name} runs in ${node.name} but is in no part of its key: name it in the stage's modules()`,
    );
  }

  #declared(name: string): OutputKind {
    const { node } = this.#options;
    const kind = node.stage.outputs[name];
    if (kind === undefined) {
      const known = Object.keys(node.stage.outputs).join(", ") || "none";
      throw new Error(
        `Stage \`${node.stage.name}\` declares no output \`${name}\`; it declares ${known}.`,
      );
    }
    return kind;
  }

  #output(name: string): string {
    const kind = this.#declared(name);
    if (kind === "json" || kind === "measured") {
      throw new Error(`Output \`${name}\` is a ${kind} output; give it with ${kind}().`);
    }
    let path = this.#paths.get(name);
    if (path === undefined) {
      path = join(this.#dir, name);
      if (kind === "directory") Deno.mkdirSync(path, { recursive: true });
      else {
        Deno.mkdirSync(this.#dir, { recursive: true });
        Deno.writeFileSync(path, new Uint8Array());
      }
      this.#paths.set(name, path);
    }
    return path;
  }

  #keep(name: string, value: JsonValue, given: "json" | "measured"): void {
    const kind = this.#declared(name);
    if (kind !== given) {
      const way = kind === "file" || kind === "directory" ? "write to output()" : `use ${kind}()`;
      throw new Error(`Output \`${name}\` is a ${kind} output, not a ${given} one; ${way}.`);
    }
    this.#values.set(name, toJson(value, `output ${name} of ${this.#options.node.name}`));
  }

  /** Moves what was written into the store and writes the manifest. */
  async publish(): Promise<NodeRecord> {
    const { node, key, components, inputs, store, run, host } = this.#options;
    const outputs: Record<string, PublishedOutput> = {};
    for (const name of Object.keys(node.stage.outputs)) outputs[name] = await this.#publish(name);
    const metricRows = this.#metrics.rows(false);
    const measuredRows = this.#metrics.rows(true);
    const metrics = await this.#publishMetrics("metrics", metricRows);
    const measured = await this.#publishMetrics("measured", measuredRows);
    const finished = new Date();
    const readings = Object.fromEntries(
      [...inputs].map(([input, record]) => [input.name, measuredDigest(record)]),
    );
    const record: NodeRecord = {
      format: 1,
      key,
      node: node.name,
      stage: node.stage.name,
      resource: node.stage.resource ?? "cpu",
      labels: node.labels,
      components,
      outputs,
      ...metrics && { metrics },
      ...measured && { measured },
      digest: outputsDigest(outputs, metrics),
      ...node.stage.readsMeasured && { readings },
      provenance: {
        ...host,
        ...this.#provenance,
        run,
        started_at: this.#started.toISOString(),
        finished_at: finished.toISOString(),
        seconds: (finished.getTime() - this.#started.getTime()) / 1000,
      },
    };
    const publication: Publication = {
      record,
      metrics: [...metricRows, ...measuredRows],
      objects: this.#objects,
    };
    await store.publish(publication);
    // Only now: until the manifest is there, a kill must find the state as it was.
    await store.discardState(key);
    return record;
  }

  async #publish(name: string): Promise<PublishedOutput> {
    const { node, key } = this.#options;
    const kind = this.#declared(name);
    if (kind === "json" || kind === "measured") {
      const value = this.#values.get(name);
      if (value === undefined) throw this.#missing(name);
      return kind === "json" ? { kind, value } : measuredOutput(value);
    }
    const path = this.#paths.get(name);
    if (path === undefined) throw this.#missing(name);
    const origin: ObjectOrigin = { node: node.name, key, output: name };
    if (kind === "file") return { kind, ...await this.#put(path, origin) };
    const files: TreeEntry[] = [];
    for (const inside of await listFiles(path)) {
      const from = join(path, inside);
      if (!(await Deno.lstat(from)).isFile) {
        throw new Error(`${inside} in output \`${name}\` is a link; expected a file.`);
      }
      files.push({ path: inside, ...await this.#put(from, { ...origin, path: inside }) });
    }
    return { kind: "directory", files };
  }

  async #put(path: string, origin: ObjectOrigin): Promise<ObjectRef> {
    const object = await this.#options.store.objects.put(path, origin);
    this.#objects.push(object);
    return { sha256: object.sha256, size: object.size };
  }

  async #publishMetrics(
    output: string,
    rows: readonly MetricRow[],
  ): Promise<MetricsRef | undefined> {
    if (rows.length === 0) return undefined;
    const { node, key, store } = this.#options;
    const origin = { node: node.name, key, output };
    const object = await store.objects.putText(encodeMetrics(rows), origin);
    this.#objects.push(object);
    return { sha256: object.sha256, size: object.size, rows: rows.length };
  }

  #missing(name: string): UserError {
    const { node } = this.#options;
    return new UserError(
      `Stage \`${node.stage.name}\` ended without writing its output \`${name}\`.`,
      { exitCode: 1 },
    );
  }

  /** Removes bars and what was being written. */
  async tidy(): Promise<void> {
    for (const bar of this.#bars) bar.stop();
    if (this.#paths.size > 0) await remove(this.#dir);
  }
}
