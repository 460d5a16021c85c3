/**
 * A stage, and the context that it runs in.
 *
 * A stage is a declaration: which parameters it reads, what it publishes, and a function. It knows nothing of other
 * stages; an experiment wires nodes together (`pipeline/graph/graph.ts`).
 *
 * @module
 */

/** Where a node runs: one `gpu` node at a time, as many `cpu` nodes as there are cores. */
export type Resource = "cpu" | "gpu";

/**
 * How an output is published: `json` is a row in the catalogue, `file` one object, `directory` a tree of objects.
 * `measured` is JSON too, of numbers that a clock or an allocator said: it is stored and reported, but part of no digest.
 */
export type OutputKind = "json" | "measured" | "file" | "directory";

/** A schema as the engine uses it; every Zod schema is one. */
export interface ParamsSchema<Params> {
  /** The validated value; throws when it isn't valid. */
  parse(value: unknown): Params;
  /** The validated value, or the problems and their places. */
  safeParse(value: unknown):
    | { readonly success: true; readonly data: Params; readonly error?: undefined }
    | {
      readonly success: false;
      readonly data?: undefined;
      readonly error: {
        readonly issues: readonly {
          readonly path: readonly PropertyKey[];
          readonly message: string;
        }[];
      };
    };
}

/** One stage of an experiment. */
export interface Stage<Params = unknown> {
  /** Lower-case name; nodes are called `name` or `name[label]`. */
  readonly name: string;
  /** One sentence for `--help` and `dag`. */
  readonly description: string;
  /** Root of the code closure that the key covers: `import.meta.url` of the stage's module. */
  readonly module: string;
  /** Further roots that the module graph does not show, such as workers. */
  readonly workers?: readonly string[];
  /**
   * Returns the URLs of local modules that a node loads by `import()` because of its parameters or its inputs'
   * parameters. They are further roots of its code closure, which follows no dynamic import of a local module. An
   * edit of such a module makes stale only the nodes that name it.
   *
   * ```ts
   * import type { Stage } from "./stage.ts";
   * const KINDS = {
   *   mean: import.meta.resolve("./mean.ts"),
   *   median: import.meta.resolve("./median.ts"),
   * };
   * const modules: Stage<{ kind: keyof typeof KINDS }>["modules"] = ({ params }) => [KINDS[params.kind]];
   * ```
   */
  modules?(node: ModulesNode<Params>): readonly string[];
  /** Validates the parameters; only what the schema keeps is part of the key. */
  readonly params: ParamsSchema<Params>;
  /** The kinds of its outputs, by name: `checkpoint: "directory"`. */
  readonly outputs: Readonly<Record<string, OutputKind>>;
  /** Defaults to `cpu`. */
  readonly resource?: Resource;
  /** True for a stage that measures: while it runs, no other node of its resource does where the host has a bounded number of them. */
  readonly alone?: boolean;
  /**
   * True for a stage that shows measured values of its inputs, such as the report. Measured values are part of no
   * digest, so without this a node is not run again when an input was only *measured* anew.
   */
  readonly readsMeasured?: boolean;
  /** Does the work. Throws to fail the node; siblings go on. */
  run(context: StageContext<Params>): Promise<void>;
}

/** A node as {@linkcode Stage.modules} sees it. */
export interface ModulesNode<Params> {
  /** Validated parameters. */
  readonly params: Params;
  /** Parameters of the nodes that it reads, by the name that the experiment gave them. */
  readonly inputs: Readonly<Record<string, readonly { readonly params: JsonValue }[]>>;
}

/** A running stage's parameters, inputs and means to publish. */
export interface StageContext<Params> {
  /** Validated parameters. */
  readonly params: Params;
  /** Inputs by the name that the experiment gave them; always a list, in the experiment's order. */
  readonly inputs: Readonly<Record<string, readonly NodeOutput[]>>;
  /** The node's name, `train[d_latent=64,seed=2]`, its key and the run that it is part of. */
  readonly node: { readonly name: string; readonly key: string; readonly run: string };
  /** Path of a declared `file` or `directory` output to write; new, empty and private until the node is published. */
  output(name: string): string;
  /** Publishes a declared `json` output: a function of the node's key. */
  json(name: string, value: JsonValue): void;
  /** Publishes a declared `measured` output: seconds, tokens/s, bytes. */
  measured(name: string, value: JsonValue): void;
  /** Path of an object of the store that a parameter names by its SHA-256; read-only. It may not be there. */
  object(sha256: string): string;
  /** A folder that survives a kill: a later attempt at the same key finds it as it was left. Removed once the node is published. */
  readonly stateDir: string;
  /** Rows of the `metrics` table. */
  readonly metrics: MetricSink;
  /** Texts by step, such as those that a model in training writes. */
  readonly samples: SampleSink;
  /** Progress towards a known total, drawn as a bar with an ETA on a terminal and as plain lines elsewhere. */
  progress(total: number, options?: { unit?: string }): Progress;
  /** Adds values to this node's `NodeOutput.provenance`: adapter, driver. The engine always gives it. */
  provenance?(values: Readonly<Record<string, JsonValue>>): void;
  /**
   * Throws when a local module is in no part of the node's key: {@linkcode Stage.modules} left it out.
   *
   * @param module Its URL; call this before `import()` loads it.
   */
  assertInKey(module: string): void;
  /** One line for the user, prefixed with the node's name. */
  readonly log: StageLog;
  /** Aborted when the user interrupts; a stage that heeds it stops at a safe place. */
  readonly signal: AbortSignal;
}

/** A node's outputs, as another node reads them. */
export interface NodeOutput {
  /** Node name, `train[d_latent=64,seed=2]`. */
  readonly name: string;
  /** Stage name. */
  readonly stage: string;
  /** Key of the node. */
  readonly key: string;
  /** The node's parameters. */
  readonly params: JsonValue;
  /** Labels that the experiment gave the node: `{factor: "d_latent", value: 64, seed: 2}`. */
  readonly labels: Readonly<Record<string, JsonValue>>;
  /** The value of a `json` output. */
  json(name: string): JsonValue;
  /** The value of a `measured` output; a stage that asks for one declares `readsMeasured`. */
  measured(name: string): JsonValue;
  /** Path of a `file` output, or of one file (`inside`) of a `directory` output, in the object store; read-only. */
  file(name: string, inside?: string): string;
  /** Files of a `directory` output, with `/` between folders, sorted. */
  files(name: string): readonly string[];
  /** The node's metrics, ordered by step then name. */
  metrics(): Promise<readonly MetricRow[]>;
  /** Who made it, when and on what: never part of a key. */
  readonly provenance: Readonly<Record<string, JsonValue>>;
}

/** One number at one step. */
export interface MetricRow {
  /** Step, from 0. */
  readonly step: number;
  /** Name: `loss`. */
  readonly name: string;
  /** The number; null for one that is not finite, such as the perplexity of a loss above 709.78 nats. */
  readonly value: number | null;
  /** True for measurements of a clock or an allocator; no digest includes such rows. */
  readonly measured: boolean;
}

/** Numbers of one step by name. One that is not finite is stored as null, as JSON has no word for it. */
export type MetricValues = Readonly<Record<string, number | null>>;

/** Writes metric rows. */
export interface MetricSink {
  /**
   * Numbers that are a function of the node's key: losses, norms, usage. Those of one step whose names are `NAME.le_EDGE` are a histogram:
   * how many things are above the edge before and up to this one, of which the last may be `inf`.
   */
  write(step: number, values: MetricValues): void;
  /** Numbers that a clock or an allocator said: seconds, tokens/s, bytes. Part of no digest. */
  measure(step: number, values: MetricValues): void;
  /** Forgets rows from `step` on; a resumed node calls it before it repeats steps. */
  rewind(step: number): void;
  /** Writes buffered rows to the state folder, so that a killed node keeps them. */
  flush(): void;
}

/** A text that a model wrote at a step. */
export interface StepSample {
  /** The text that it goes on from. */
  readonly prompt: string;
  /** The text after the prompt. */
  readonly text: string;
  /** Why it ends, in a word of the stage's. */
  readonly finish: string;
}

/** Name of the file in which a stage publishes its samples in a `directory` output; the dashboard looks for it. */
export const SAMPLES_FILE = "samples.jsonl";

/** Keeps texts by step across a kill, and tells whoever watches. No digest includes them unless the stage publishes {@linkcode SampleSink.text}. */
export interface SampleSink {
  /** Keeps the texts of a step; they are on the disk when this returns. */
  write(step: number, samples: readonly StepSample[]): void;
  /** Takes up texts of another node, as {@linkcode SampleSink.text} gives them, without telling. */
  take(text: string): void;
  /** Forgets texts from `step` on; a resumed node calls it before it repeats steps. */
  rewind(step: number): void;
  /** All texts as lines of JSON, `{step, index, prompt, text, finish}`, by step and then by place among those of the step. */
  text(): string;
}

/** Progress of one node. */
export interface Progress {
  /** Sets the amount done, with an optional remark shown beside the bar. */
  update(done: number, remark?: string): void;
}

/** Log lines of one node. */
export interface StageLog {
  /** Something worth knowing. */
  info(message: string): void;
  /** Something that may be wrong. */
  warn(message: string): void;
}

/** A value that JSON can hold. */
export type JsonValue =
  | string
  | number
  | boolean
  | null
  | readonly JsonValue[]
  | { readonly [key: string]: JsonValue };

/** Declares a stage; only there for type inference. */
export function defineStage<Params>(stage: Stage<Params>): Stage<Params> {
  return stage;
}

/** One node of an experiment: a stage with its parameters and inputs. */
export interface NodeSpec {
  /** The stage. */
  // deno-lint-ignore no-explicit-any -- nodes of different stages share one list
  readonly stage: Stage<any>;
  /** Tells this node from others of its stage, `d_latent=64,seed=2`; empty for the only one. */
  readonly label?: string;
  /** Labels that downstream stages read. */
  readonly labels?: Readonly<Record<string, JsonValue>>;
  /** Parameters, validated by the stage's schema. */
  readonly params: JsonValue;
  /** Inputs by name: nodes of the same experiment. */
  readonly inputs?: Readonly<Record<string, readonly NodeSpec[]>>;
}

/** Copies an output to a folder that people look at, after a run in which its node succeeded. */
export interface ResultSpec {
  /** The node. */
  readonly node: NodeSpec;
  /** Name of a `file` or `directory` output of its stage. */
  readonly output: string;
  /** Folder, relative to the project root: a directory's files keep their names, a file gets the output's name. */
  readonly to: string;
}
