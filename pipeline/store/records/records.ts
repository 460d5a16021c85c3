/**
 * Manifests: one JSON file for each published node and for each run. They are the truth; the catalogue is an index
 * over them and can be rebuilt.
 *
 * @module
 */

import { join } from "@std/path";
import { listFiles, readTextOrUndefined, removeThrough, writeAtomic } from "../files.ts";
import { nodeRecordSchema, runRecordSchema, soundCodeSchema } from "./record_schema.ts";
import type { CodeClosure } from "../../graph/code.ts";
import { digestJson, type KeyComponents } from "../../graph/key.ts";
import type { ObjectRef } from "../objects.ts";
import type { JsonValue, Resource } from "../../stage.ts";

/** One file of a `directory` output. */
export interface TreeEntry extends ObjectRef {
  /** Path inside the directory, with `/`. */
  readonly path: string;
}

/** One output of a node. */
export type PublishedOutput =
  | { readonly kind: "json"; readonly value: JsonValue }
  | MeasuredOutput
  | ({ readonly kind: "file" } & ObjectRef)
  | { readonly kind: "directory"; readonly files: readonly TreeEntry[] };

/** A `measured` output. */
export interface MeasuredOutput {
  /** Which kind of output it is. */
  readonly kind: "measured";
  /** The measured value. */
  readonly value: JsonValue;
  /** Digest of the value. The record's own digest leaves the value out. */
  readonly sha256: string;
}

/** A metrics file (see `metrics.ts`) in the object store. */
export interface MetricsRef extends ObjectRef {
  /** How many numbers. */
  readonly rows: number;
}

/** A published node, as its manifest and the catalogue hold it. */
export interface NodeRecord {
  /** Version of the manifest. */
  readonly format: 1;
  /** The node's key. */
  readonly key: string;
  /** Name of the node that made it; another node with the same key shares it. */
  readonly node: string;
  /** Name of the stage. */
  readonly stage: string;
  /** Where it ran. */
  readonly resource: Resource;
  /** Labels of the node that made it. */
  readonly labels: Readonly<Record<string, JsonValue>>;
  /** The key is a function of these. */
  readonly components: KeyComponents;
  /** Its outputs, by name. */
  readonly outputs: Readonly<Record<string, PublishedOutput>>;
  /** Metrics that are a function of the key. */
  readonly metrics?: MetricsRef;
  /** Metrics that a clock or an allocator said; part of no digest. */
  readonly measured?: MetricsRef;
  /** Digest of outputs and metrics, without anything measured. */
  readonly digest: string;
  /** For a stage that reads measured values: the {@linkcode measuredDigest} of each node that it read. */
  readonly readings?: Readonly<Record<string, string>>;
  /** Who, when, on what. */
  readonly provenance: Readonly<Record<string, JsonValue>> & {
    readonly run: string;
    readonly started_at: string;
    readonly finished_at: string;
    readonly seconds: number;
    /** Where another store's node came from, when, and for which run, if for one. */
    readonly pulled?: { readonly from: string; readonly at: string; readonly run?: string };
  };
}

/**
 * Where a node of a run has come to; `submitted` is with a batch system that goes on without the run, `waiting` reads a
 * node that is.
 */
export type NodeState =
  | "cached"
  | "done"
  | "failed"
  | "blocked"
  | "interrupted"
  | "submitted"
  | "waiting";

/** One node in a run. */
export interface RunNode {
  /** Name of the node. */
  readonly node: string;
  /** Name of the stage. */
  readonly stage: string;
  /** Absent when an input never came to be. */
  readonly key?: string;
  /** Where it has come to. */
  readonly state: NodeState;
  /** Why it ran, or why it didn't. */
  readonly reason?: string;
  /** How long it ran. */
  readonly seconds?: number;
  /** Why it failed. */
  readonly error?: string;
}

/** Where a run has come to; `killed` is what a later run makes of a `running` one whose process is gone. */
export type RunState = "running" | "done" | "failed" | "interrupted" | "killed" | "submitted";

/** A run of the pipeline. */
export interface RunRecord {
  /** Version of the manifest. */
  readonly format: 1;
  /** Name of the run. */
  readonly run: string;
  /** Where it has come to. */
  readonly state: RunState;
  /** The command line that the user typed. */
  readonly command: string;
  /** Where the configuration came from. */
  readonly config_path: string;
  /** The configuration. */
  readonly configuration: JsonValue;
  /** When it started (ISO 8601). */
  readonly started_at: string;
  /** When it ended. */
  readonly finished_at?: string;
  /** The machine. */
  readonly host: Readonly<Record<string, JsonValue>>;
  /** How its nodes ended; empty until the run has ended. */
  readonly nodes: readonly RunNode[];
}

/** Digest of what a node published as a function of its key: nothing measured is part of it. */
export function outputsDigest(
  outputs: Readonly<Record<string, PublishedOutput>>,
  metrics: MetricsRef | undefined,
): string {
  const kept = Object.entries(outputs).filter(([, { kind }]) => kind !== "measured");
  return digestJson({
    outputs: Object.fromEntries(kept) as unknown as JsonValue,
    metrics: metrics?.sha256 ?? null,
  });
}

/** Publishes a value as a `measured` output. */
export function measuredOutput(value: JsonValue): MeasuredOutput {
  return { kind: "measured", value, sha256: digestJson(value) };
}

/** Digest of all that was measured of a node, outputs and metrics; empty when nothing was. */
export function measuredDigest({ outputs, measured }: NodeRecord): string {
  const digests = Object.entries(outputs).flatMap(([name, output]) =>
    output.kind === "measured" ? [[name, output.sha256]] : []
  );
  if (digests.length === 0) return measured?.sha256 ?? "";
  return digestJson({ outputs: digests, metrics: measured?.sha256 ?? null });
}

/** Tells the publications of one key apart. */
export interface PublicationId {
  /** Name of the run that published it. */
  readonly run: string;
  /** When. */
  readonly finished_at: string;
}

/** Which of a key's publications a record is. */
export function publicationOf({ provenance: { run, finished_at } }: NodeRecord): PublicationId {
  return { run, finished_at };
}

/** Whether a record is a certain publication of its key. */
export function isPublication(record: NodeRecord, id: PublicationId | undefined): boolean {
  const { run, finished_at } = record.provenance;
  return run === id?.run && finished_at === id.finished_at;
}

/** All objects that a record refers to. */
export function objectsOf(record: NodeRecord): ObjectRef[] {
  const objects: ObjectRef[] = [];
  for (const output of Object.values(record.outputs)) {
    if (output.kind === "file") objects.push(output);
    if (output.kind === "directory") objects.push(...output.files);
  }
  if (record.metrics) objects.push(record.metrics);
  if (record.measured) objects.push(record.measured);
  return objects;
}

/** The manifests of a store. */
export class Records {
  readonly #nodes: string;
  readonly #runs: string;
  readonly #temporary: string;
  /** Code closures by digest. Thousands of nodes have the same few, of hundreds of files each. */
  readonly #code = new Map<string, CodeClosure>();

  /** `dir` is the store, `temporary` a folder on the same disk. */
  constructor(dir: string, temporary: string) {
    this.#nodes = join(dir, "nodes");
    this.#runs = join(dir, "runs");
    this.#temporary = temporary;
  }

  #nodePath(key: string): string {
    return join(this.#nodes, key.slice(0, 2), `${key}.json`);
  }

  /** The record of a key; `undefined` when it is missing or unreadable. */
  async readNode(key: string): Promise<NodeRecord | undefined> {
    const text = await readTextOrUndefined(this.#nodePath(key));
    return text === undefined ? undefined : parseNode(text, key, this.#code);
  }

  /** Publishes a node: from here on it is there. */
  async writeNode(record: NodeRecord): Promise<void> {
    await writeAtomic(this.#nodePath(record.key), `${JSON.stringify(record)}\n`, {
      temporary: this.#temporary,
    });
  }

  /** Takes a publication back. */
  async removeNode(key: string): Promise<void> {
    await removeThrough(this.#temporary, this.#nodePath(key));
  }

  /** Keys of all manifests, sorted. */
  async nodeKeys(): Promise<string[]> {
    return (await listFiles(this.#nodes)).map((path) => /([0-9a-f]{64})\.json$/.exec(path)?.[1])
      .filter((key) => key !== undefined);
  }

  /** A run's record; `undefined` when it is missing or unreadable. */
  async readRun(name: string): Promise<RunRecord | undefined> {
    const text = await readTextOrUndefined(join(this.#runs, `${name}.json`));
    const run = text === undefined ? undefined : parse<RunRecord>(text);
    // A name that is not the file's would have another file removed in its place.
    return runRecordSchema.safeParse(run).success && run!.run === name ? run : undefined;
  }

  /** Writes a run's manifest. */
  async writeRun(record: RunRecord): Promise<void> {
    await writeAtomic(join(this.#runs, `${record.run}.json`), `${JSON.stringify(record)}\n`, {
      temporary: this.#temporary,
    });
  }

  /** Path of a run's events, one a line (`pipeline/executors/run_events.ts`). */
  eventsPath(run: string): string {
    return join(this.#runs, `${run}.jsonl`);
  }

  /** Removes a run's manifest and its events. */
  async removeRun(run: string): Promise<void> {
    await removeThrough(this.#temporary, this.eventsPath(run));
    await removeThrough(this.#temporary, join(this.#runs, `${run}.json`));
  }

  /** Names of all runs, oldest first. */
  async runNames(): Promise<string[]> {
    return (await listFiles(this.#runs)).map((path) => /^(.+)\.json$/.exec(path)?.[1])
      .filter((run) => run !== undefined);
  }

  /** All runs whose manifest can be read, oldest first. */
  async readRuns(): Promise<RunRecord[]> {
    return (await this.readEveryRun()).runs;
  }

  /** All runs, oldest first, and the manifests that can't be read, as paths in the store. */
  async readEveryRun(): Promise<{ runs: RunRecord[]; unreadable: string[] }> {
    const runs: RunRecord[] = [];
    const unreadable: string[] = [];
    for (const path of await listFiles(this.#runs)) {
      const name = /^([^/]+)\.json$/.exec(path)?.[1];
      if (name === undefined) continue;
      const run = await this.readRun(name);
      if (run !== undefined) runs.push(run);
      else unreadable.push(`runs/${path}`);
    }
    return { runs: runs.sort((a, b) => a.run < b.run ? -1 : 1), unreadable };
  }
}

/** The record that a manifest of a key holds; `undefined` when it is damaged or another key's. `known` are code closures that manifests share. */
export function parseNode(
  text: string,
  key: string,
  known: Map<string, CodeClosure> = new Map(),
): NodeRecord | undefined {
  let record = parse<NodeRecord>(text);
  const code: unknown = record?.components?.code;
  const shared = known.get((code as CodeClosure | undefined)?.digest ?? "");
  const isShared = shared !== undefined && isSameCode(code as CodeClosure, shared);
  const schema = isShared ? soundCodeSchema : nodeRecordSchema;
  if (!schema.safeParse(record).success || record?.key !== key) return undefined;
  if (isShared) record = { ...record, components: { ...record.components, code: shared } };
  else known.set(record.components.code.digest, record.components.code);
  // A manifest that was damaged in a way that is still JSON is caught by its own digests.
  if (outputsDigest(record.outputs, record.metrics) !== record.digest) return undefined;
  const sound = Object.values(record.outputs).every((output) =>
    output.kind !== "measured" || digestJson(output.value) === output.sha256
  );
  return sound ? record : undefined;
}

/** Whether a value that was read says the same, word for word, as a closure that is sound. */
function isSameCode(read: CodeClosure, sound: CodeClosure): boolean {
  return Object.keys(read).length === Object.keys(sound).length &&
    isSameTable(read.files, sound.files) && isSameTable(read.packages, sound.packages);
}

function isSameTable(read: unknown, sound: Readonly<Record<string, string>>): boolean {
  if (typeof read !== "object" || read === null) return false;
  const entries = Object.entries(read);
  return entries.length === Object.keys(sound).length &&
    entries.every(([name, value]) => Object.hasOwn(sound, name) && sound[name] === value);
}

function parse<T>(text: string): T | undefined {
  try {
    return JSON.parse(text) as T;
  } catch {
    return undefined;
  }
}
