/**
 * Runs the nodes of a graph: each as soon as what it reads is published, a `gpu` node for each device, as many `cpu`
 * nodes as there are cores. A failed node never blocks its siblings.
 *
 * @module
 */

import { type Executor, SubmittedError } from "../executors/executor.ts";
import type { NodeEvent } from "../executors/run_events.ts";
import { explain, isDiskError, traceOf } from "../errors.ts";
import type { Graph, GraphNode } from "../graph/graph.ts";
import type { KeyComponents } from "../graph/key.ts";
import type { PlannedNode, Planner } from "./plan.ts";
import type { RemoteSource } from "./remote_source.ts";
import { Queue } from "./queue.ts";
import { type Display, formatSeconds } from "../terminal/progress.ts";
import {
  type NodeRecord,
  type NodeState,
  type PublicationId,
  publicationOf,
  type RunNode,
} from "../store/records/records.ts";
import type { JsonValue, Resource } from "../stage.ts";
import type { Store } from "../store/store.ts";

/** A graph to run, the store to publish to, and how. */
export interface SchedulerOptions {
  /** The nodes to run. */
  readonly graph: Graph;
  /** The store that nodes publish to. */
  readonly store: Store;
  /** The project root. */
  readonly root: string;
  /** Computes keys. */
  readonly planner: Planner;
  /** Nodes that run whatever is published, from an empty state folder. */
  readonly force: ReadonlySet<GraphNode>;
  /** Name of the run. */
  readonly run: string;
  /** Runs nodes that are due. */
  readonly executor: Executor;
  /** Asked for a node before it runs. */
  readonly remote?: RemoteSource;
  /** How many `cpu` nodes run at a time. */
  readonly jobs: number;
  /** Shows progress. */
  readonly display: Display;
  /** Told what becomes of each node. */
  readonly note?: (event: NodeEvent) => void;
  /** Aborts on the first interrupt; running nodes may stop at a safe place, no others start. */
  readonly signal: AbortSignal;
  /** Goes into the provenance. */
  readonly host: Readonly<Record<string, JsonValue>>;
  /** Shows where in the program a node's error arose. */
  readonly debug?: boolean;
}

/** How the nodes of a graph ended. */
export interface ScheduleResult {
  /** In the graph's order. */
  readonly nodes: readonly RunNode[];
  /** The published records. */
  readonly records: ReadonlyMap<GraphNode, NodeRecord>;
  /** Why no further nodes were started, such as a full disk. */
  readonly stopped?: string;
}

/** Nodes for which a remote store is asked at the same time. */
const ASKED_AT_ONCE = 8;

interface Entry {
  readonly node: GraphNode;
  /** Entries that have to settle first. */
  readonly waiting: Set<Entry>;
  /** Entries that wait for this one. */
  waiters: Set<Entry>;
  state?: NodeState;
  key?: string;
  record?: NodeRecord;
  reason?: string;
  seconds?: number;
  error?: string;
  /** Set when its published objects were found damaged by a reader. */
  heal?: string;
  /** Set when the remote store was asked for it. */
  asked?: boolean;
  /** When all of its objects were last found right, milliseconds. */
  soundAt?: number;
  /** A look at the store that began before its turn. */
  ahead?: Ahead;
}

/** Where a node stands, once its inputs are published. */
type Examined = PlannedNode & { key: string; components: KeyComponents };

/** A look at the store for a node that waits for its turn. */
interface Ahead {
  /** The inputs that it was made with. */
  readonly inputs: ReadonlyMap<GraphNode, NodeRecord>;
  /** How many nodes had been taken back by then. */
  readonly heals: number;
  /** Never rejects, as nobody may come to ask. */
  readonly found: Promise<{ planned: Examined } | { error: unknown }>;
}

/** How many nodes are looked up at once: reading manifests one by one is waiting, above all on a network's disk. */
const AHEAD = 16;
/** For so long an input that was found whole is not looked at again: thousands of nodes may read one data set. */
const SOUND_MILLISECONDS = 1000;

interface Job {
  readonly entry: Entry;
  readonly key: string;
  readonly components: KeyComponents;
  readonly inputs: ReadonlyMap<GraphNode, NodeRecord>;
  readonly replaces: PublicationId | undefined;
  readonly fresh: boolean;
}

/** Runs a graph to the end, or to where it can go no further. */
export async function runGraph(options: SchedulerOptions): Promise<ScheduleResult> {
  return await new Scheduler(options).run();
}

class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #entries = new Map<GraphNode, Entry>();
  readonly #ready = new Queue<Entry>();
  readonly #queues: Record<Resource, Queue<Job>> = { cpu: new Queue(), gpu: new Queue() };
  readonly #free: Record<Resource, number>;
  /** How many nodes of each resource run at a time. */
  readonly #places: Record<Resource, number>;
  /** Set until the executor was asked for its places. */
  #askPlaces: (() => Promise<number>) | undefined;
  /** Nodes that a remote store is to be asked for. */
  readonly #questions: Pick<Job, "entry" | "key" | "inputs">[] = [];
  #asking = 0;
  #running = 0;
  /** Resolves when a running node has ended. */
  #ended = Promise.withResolvers<void>();
  /** An error that is the engine's own. */
  #broken: { readonly error: unknown } | undefined;
  #heals = 0;
  /** Nodes that run or are about to, by key, so that two nodes of one key don't run twice. */
  readonly #leaders = new Map<string, Entry>();
  #stopped: string | undefined;

  constructor(options: SchedulerOptions) {
    this.#options = options;
    const { gpus, cpus } = options.executor;
    const asked = typeof gpus === "function";
    this.#places = { cpu: cpus ?? Math.max(1, options.jobs), gpu: asked ? 0 : gpus };
    this.#free = { ...this.#places };
    if (asked) this.#askPlaces = gpus;
    for (const node of options.graph.nodes) {
      const entry: Entry = { node, waiting: new Set(), waiters: new Set() };
      this.#entries.set(node, entry);
      for (const dependency of node.dependencies) wait(entry, this.#entries.get(dependency)!);
      if (entry.waiting.size === 0) this.#ready.push(entry);
    }
  }

  async run(): Promise<ScheduleResult> {
    for (;;) {
      for (let entry = this.#ready.shift(); entry; entry = this.#ready.shift()) {
        this.#lookAhead();
        await this.#resolve(entry);
        // Not after all that are ready: the first of ten thousand need not wait for the last.
        this.#start("gpu");
        this.#start("cpu");
        this.#ask();
      }
      // A node that could not be started has settled, and others with it.
      if (this.#ready.length > 0) continue;
      if (this.#running === 0) break;
      await this.#ended.promise;
      this.#ended = Promise.withResolvers();
      if (this.#broken !== undefined) throw this.#broken.error;
      this.#start("gpu");
      this.#start("cpu");
      this.#ask();
    }
    try {
      await this.#options.store.flush();
    } catch (error) {
      if (!isDiskError(error)) throw error;
      this.#stopped ??= explain(error, "writing the catalogue");
    }
    const entries = [...this.#entries.values()];
    return {
      nodes: entries.map(runNode),
      records: new Map(entries.flatMap((e) => e.record ? [[e.node, e.record] as const] : [])),
      ...this.#stopped === undefined ? {} : { stopped: this.#stopped },
    };
  }

  /** Begins to look up the nodes that come next. */
  #lookAhead(): void {
    for (const entry of this.#ready.peek(AHEAD)) {
      if (entry.ahead !== undefined || this.#options.signal.aborted) continue;
      const inputs = this.#inputsOf(entry);
      if (inputs === undefined) continue;
      const found = this.#options.planner.examine(entry.node, inputs)
        .then((planned) => ({ planned }), (error: unknown) => ({ error }));
      entry.ahead = { inputs, heals: this.#heals, found };
    }
  }

  /** Records of a node's inputs, if all are published. */
  #inputsOf({ node }: Entry): ReadonlyMap<GraphNode, NodeRecord> | undefined {
    const inputs = new Map<GraphNode, NodeRecord>();
    for (const dependency of node.dependencies) {
      const { record } = this.#entries.get(dependency)!;
      if (record === undefined) return undefined;
      inputs.set(dependency, record);
    }
    return inputs;
  }

  /** Where a node stands: what was found ahead, unless the store or an input has changed since. */
  async #examine(entry: Entry, inputs: ReadonlyMap<GraphNode, NodeRecord>): Promise<Examined> {
    const { ahead } = entry;
    delete entry.ahead;
    const valid = ahead !== undefined && ahead.heals === this.#heals &&
      [...inputs].every(([node, record]) => ahead.inputs.get(node) === record);
    if (!valid) return await this.#options.planner.examine(entry.node, inputs);
    const found = await ahead.found;
    if ("error" in found) throw found.error;
    return found.planned;
  }

  /** Runs, reuses or blocks a node whose inputs have all settled. */
  async #resolve(entry: Entry): Promise<void> {
    const { node } = entry;
    const { force, signal } = this.#options;
    for (const dependency of node.dependencies) {
      const input = this.#entries.get(dependency)!;
      // It had settled, and is being run again since a sibling found it damaged.
      if (input.state === undefined) wait(entry, input);
    }
    if (entry.waiting.size > 0) return;
    for (const dependency of node.dependencies) {
      const input = this.#entries.get(dependency)!;
      if (input.record === undefined) {
        const passed = input.state === "blocked" || input.state === "waiting";
        const why = passed ? input.reason : `${input.node.name} ${input.state}`;
        return this.#settle(entry, {
          state: STATE_BEHIND[input.state ?? "blocked"] ?? "blocked",
          ...why === undefined ? {} : { reason: why },
        });
      }
    }
    const inputs = this.#inputsOf(entry)!;
    let planned: Examined;
    try {
      planned = await this.#examine(entry, inputs);
    } catch (error) {
      return this.#settle(entry, { state: "failed", error: explain(error, "looking it up") });
    }
    const { key, components } = planned;
    entry.key = key;
    const leader = this.#leaders.get(key);
    if (leader !== undefined && leader !== entry) return this.#follow(entry, leader);
    const forced = force.has(node);
    if (planned.record !== undefined && !forced && entry.heal === undefined) {
      return this.#settle(entry, { state: "cached", record: planned.record });
    }
    if (this.#stopped !== undefined) {
      return this.#settle(entry, { state: "blocked", reason: this.#stopped });
    }
    if (signal.aborted) return this.#settle(entry, { state: "interrupted" });
    if (!forced && !entry.asked && this.#options.remote?.usable) {
      entry.asked = true;
      this.#leaders.set(key, entry);
      this.#questions.push({ entry, key, inputs });
      return;
    }
    if (await this.#healInputs(entry)) return;
    entry.reason = entry.heal ?? (forced ? "forced" : planned.reasons.join("; "));
    if (node.stage.resource === "gpu" && this.#askPlaces) {
      const ask = this.#askPlaces;
      this.#askPlaces = undefined;
      this.#places.gpu = this.#free.gpu = await ask();
    }
    const replaced = planned.replaces ?? planned.record;
    this.#leaders.set(key, entry);
    this.#queues[node.stage.resource ?? "cpu"].push({
      entry,
      key,
      components,
      inputs,
      replaces: replaced && publicationOf(replaced),
      fresh: forced,
    });
  }

  /** A node of the same key has run or is about to: its result is ours too. */
  #follow(entry: Entry, leader: Entry): void {
    if (leader.state === undefined) {
      wait(entry, leader);
    } else if (leader.record !== undefined) {
      const reason = `has the same key as ${leader.node.name}`;
      this.#settle(entry, { state: "cached", reason, record: leader.record });
    } else {
      const reason = `has the same key as ${leader.node.name}, which ${leader.state}`;
      this.#settle(entry, { state: "blocked", reason });
    }
  }

  /**
   * Reads all objects of the node's inputs before the node does. Runs a damaged input again, and the node waits for it.
   * Returns whether it waits.
   */
  async #healInputs(entry: Entry): Promise<boolean> {
    const { store, display } = this.#options;
    for (const dependency of entry.node.dependencies) {
      const input = this.#entries.get(dependency)!;
      if (input.state === undefined) {
        // Being healed for another reader.
        wait(entry, input);
        continue;
      }
      if (performance.now() - (input.soundAt ?? -Infinity) < SOUND_MILLISECONDS) continue;
      const damage = await store.damage(input.record!, { read: true });
      if (damage === undefined) {
        input.soundAt = performance.now();
        continue;
      }
      const what = `object ${damage.sha256.slice(0, 12)} is ${damage.problem}`;
      if (input.heal !== undefined) {
        this.#settle(entry, {
          state: "failed",
          error: `${input.node.name} was run again, and its ${what} once more.`,
        });
        return true;
      }
      display.line(`${input.node.name}: ${what}; running it again`);
      await store.retract(input.key!);
      this.#leaders.delete(input.key!);
      input.heal = what;
      this.#heals++;
      delete input.state;
      delete input.record;
      input.waiters = new Set();
      wait(entry, input);
      this.#ready.push(input);
    }
    return entry.waiting.size > 0;
  }

  #start(resource: Resource): void {
    const queue = this.#queues[resource];
    const places = this.#places[resource];
    while (queue.length > 0 && this.#free[resource] > 0) {
      const [next] = queue.peek(1);
      // It waits for those that run, and those behind it wait for it. A batch system has hosts enough.
      const alone = next!.entry.node.stage.alone === true && places !== Infinity;
      if (alone && this.#free[resource] < places) break;
      const taken = alone ? places : 1;
      const job = queue.shift()!;
      if (this.#options.signal.aborted || this.#stopped !== undefined) {
        const { signal } = this.#options;
        this.#settle(job.entry, {
          state: signal.aborted ? "interrupted" : "blocked",
          ...this.#stopped === undefined ? {} : { reason: this.#stopped },
        });
        continue;
      }
      this.#free[resource] -= taken;
      this.#running++;
      this.#execute(job)
        .catch((error) => this.#broken ??= { error })
        .finally(() => {
          this.#free[resource] += taken;
          this.#running--;
          this.#ended.resolve();
        });
    }
  }

  /** Asks the remote store for nodes; one that it doesn't have is resolved again, and runs. */
  #ask(): void {
    while (this.#questions.length > 0 && this.#asking < ASKED_AT_ONCE) {
      const question = this.#questions.shift()!;
      this.#asking++;
      this.#running++;
      this.#fetch(question)
        .catch((error) => this.#broken ??= { error })
        .finally(() => {
          this.#asking--;
          this.#running--;
          this.#ended.resolve();
        });
    }
  }

  async #fetch({ entry, key, inputs }: Pick<Job, "entry" | "key" | "inputs">): Promise<void> {
    const { store, display, signal, run } = this.#options;
    const remote = this.#options.remote!;
    const { node } = entry;
    try {
      const record = await remote.fetch({ node, key, inputs, store, display, signal, run });
      if (record === undefined) this.#ready.push(entry);
      else {
        this.#settle(entry, { state: "cached", reason: `from ${remote.name}`, record });
        await this.#enter();
      }
    } catch (error) {
      if (signal.aborted) return this.#settle(entry, { state: "interrupted" });
      const message = explain(error, `fetching ${node.name}`);
      if (isDiskError(error)) this.#stopped ??= message;
      this.#settle(entry, { state: "failed", error: message });
    }
  }

  async #execute({ entry, key, components, inputs, replaces, fresh }: Job): Promise<void> {
    const { executor, store, root, run, display, signal, host, debug } = this.#options;
    const { node } = entry;
    const start = performance.now();
    this.#options.note?.({
      type: "node",
      node: node.name,
      state: "running",
      key,
      ...entry.reason !== undefined && { reason: entry.reason },
    });
    display.line(`${node.name}: runs (${entry.reason})`);
    try {
      const record = await executor.run({
        node,
        key,
        components,
        inputs,
        ...replaces !== undefined && { replaces },
        fresh,
        store,
        root,
        run,
        display,
        signal,
        debug: debug ?? false,
        host,
      });
      const seconds = (performance.now() - start) / 1000;
      display.line(`${node.name}: done in ${formatSeconds(seconds)}`);
      this.#settle(entry, { state: "done", record, seconds });
    } catch (error) {
      if (error instanceof SubmittedError) {
        this.#settle(entry, { state: "submitted", reason: error.message });
        return;
      }
      const seconds = (performance.now() - start) / 1000;
      if (signal.aborted) {
        display.line(`${node.name}: interrupted after ${formatSeconds(seconds)}`);
        this.#settle(entry, { state: "interrupted", seconds });
        return;
      }
      // A store that is another's refuses what it is given, in words that say nothing of that.
      const lost = await lossOf(store);
      if (lost !== undefined) this.#stopped ??= lost;
      const message = lost ?? explain(error, `running ${node.name}`);
      display.line(`${node.name}: failed: ${message}`);
      if (debug) {
        for (const line of traceOf(error).split("\n")) {
          display.line(`${node.name}: ${line.trimEnd()}`);
        }
      }
      if (isDiskError(error)) this.#stopped ??= message;
      this.#settle(entry, { state: "failed", error: message, seconds });
      return;
    }
    await this.#enter();
  }

  /** Enters what waits into the catalogue. */
  async #enter(): Promise<void> {
    try {
      await this.#options.store.flushSome();
    } catch (error) {
      // The node is published all the same: its manifest is written, and the next run enters it.
      this.#stopped ??= explain(error, "writing the catalogue");
    }
  }

  #settle(entry: Entry, result: Partial<Entry> & { state: NodeState }): void {
    Object.assign(entry, result);
    const { stage: _, ...ended } = runNode(entry);
    this.#options.note?.({ type: "node", ...ended });
    for (const waiter of entry.waiters) {
      waiter.waiting.delete(entry);
      if (waiter.waiting.size === 0 && waiter.state === undefined) this.#ready.push(waiter);
    }
    entry.waiters.clear();
  }
}

/** Why the store is no longer ours; nothing when it is. */
async function lossOf(store: Store): Promise<string | undefined> {
  try {
    await store.assertOwned();
  } catch (error) {
    return explain(error, "asking for the store's lease");
  }
}

/** States of a node by that of one that it reads and that published nothing; others leave it blocked. */
const STATE_BEHIND: Partial<Record<NodeState, NodeState>> = {
  interrupted: "interrupted",
  submitted: "waiting",
  waiting: "waiting",
};

function wait(entry: Entry, on: Entry): void {
  entry.waiting.add(on);
  on.waiters.add(entry);
}

function runNode(entry: Entry): RunNode {
  const { node, key, state, reason, seconds, error } = entry;
  return {
    node: node.name,
    stage: node.stage.name,
    state: state ?? "blocked",
    ...key !== undefined && { key },
    ...reason !== undefined && { reason },
    ...seconds !== undefined && { seconds },
    ...error !== undefined && { error },
  };
}
