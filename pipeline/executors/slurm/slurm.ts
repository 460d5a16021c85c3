/**
 * The executor of a cluster under Slurm: nodes of a stage that are due at a time are one job array, whose tasks are the
 * program started again (`run-node KEY`).
 *
 * A task talks through files (`waves.ts`), so neither it nor Slurm needs the coordinator: one that comes later finds
 * the tasks and waits for them.
 *
 * @module
 */

import { messageOf, UserError } from "../../errors.ts";
import { isPublication, type NodeRecord } from "../../store/records/records.ts";
import type { Store } from "../../store/store.ts";
import type { Display } from "../../terminal/progress.ts";
import type { Executor, Job, JobProgram, RunStart } from "../executor.ts";
import { SubmittedError } from "../executor.ts";
import { JobError } from "../job_error.ts";
import { JobFiles, type RunRequest } from "../job_files.ts";
import { type QueuedTask, SlurmClient, SlurmSilent } from "./client.ts";
import type { SlurmOptions } from "./options.ts";
import { jobScript } from "./script.ts";
import { judge } from "./verdict.ts";
import { type TaskName, type Wave, WaveFiles, type WaveName } from "./waves.ts";

/** Options of all jobs. */
export interface SlurmExecutorOptions {
  /** The open store, on a file system that the cluster's hosts share. */
  readonly store: Store;
  /** How the program is started. */
  readonly program: JobProgram;
  /** Arguments that the jobs repeat. */
  readonly request: RunRequest;
  /** The site's resources. */
  readonly slurm: SlurmOptions;
  /** Leaves once Slurm has every job that is due. */
  readonly detach: boolean;
  /** Asked once after an interrupt: `true` cancels that many jobs, `false` leaves them to Slurm. */
  readonly confirmCancel: (jobs: number) => Promise<boolean>;
  /** Talks to Slurm; through its programs unless given. */
  readonly client?: SlurmClient;
}

/** Milliseconds in which nodes that fall due join one array. */
const GATHER = 100;
/** Milliseconds between the first questions. */
const FIRST_POLL = 500;
/** How much longer each time it waits between two questions that brought nothing new. */
const BACKOFF = 1.5;
/** Tasks in one array; Slurm's own limit is 1001 unless a site says otherwise. */
const LARGEST_ARRAY = 1000;
/** Milliseconds after which an array whose submission got no answer, and which the queue does not show, is sent again. */
const UNANSWERED = 15_000;

/** A node that is with Slurm, or about to be. */
interface Pending {
  readonly job: Job;
  readonly settle: (outcome: NodeRecord | Error) => void;
  /** The task that it is; nothing until it is sent. */
  task?: TaskName;
  /** Since when the queue, asked, does not show it at work; milliseconds. */
  idle?: number;
  /** Why it waits, as it was told last. */
  told?: string;
}

/** An array of which tasks are waited for. */
interface Sent {
  readonly wave: Wave;
  job?: string;
  /** When it was sent the last time. */
  at: number;
}

/** Runs nodes as jobs of Slurm's. */
export class SlurmExecutor implements Executor {
  /** Slurm decides how many run at a time. */
  readonly gpus = Infinity;
  /** Likewise. */
  readonly cpus = Infinity;
  readonly #options: SlurmExecutorOptions;
  readonly #client: SlurmClient;
  readonly #waves: WaveFiles;
  readonly #pending = new Map<string, Pending>();
  readonly #sent = new Map<string, Sent>();
  #gathering: ReturnType<typeof setTimeout> | undefined;
  #polling = false;
  #pause = FIRST_POLL;
  #wake: () => void = () => {};
  #silent = false;
  #interrupted = false;
  #display: Display | undefined;
  #cluster: string | undefined;

  /** Sends nothing yet. */
  constructor(options: SlurmExecutorOptions) {
    this.#options = options;
    this.#client = options.client ?? new SlurmClient();
    this.#waves = new WaveFiles(options.store.dir);
  }

  /** Writes what jobs start from. */
  async prepare(start: RunStart): Promise<void> {
    const { store, request } = this.#options;
    const files = new JobFiles(store.dir, start.run);
    await files.writeRun({ format: 1, ...start, ...request }, store.temporary);
  }

  /** Sends a node, or finds the job that it is already, and waits for it. */
  async run(job: Job): Promise<NodeRecord> {
    this.#display = job.display;
    job.signal.addEventListener("abort", this.#onInterrupt, { once: true });
    await new JobFiles(this.#options.store.dir, job.run).writeTicket(job, "");
    const found = await this.#adopt(job);
    if (found !== undefined) this.#sent.set(found.sent.wave.name, found.sent);
    return await new Promise<NodeRecord>((resolve, reject) => {
      const settle = (outcome: NodeRecord | Error) => {
        this.#pending.delete(job.key);
        if (outcome instanceof Error) reject(outcome);
        else resolve(outcome);
      };
      this.#pending.set(job.key, { job, settle, ...found && { task: found.task } });
      if (found === undefined) this.#gather();
      this.#poll();
    });
  }

  /** The job of an earlier coordinator that runs the node, or is to run it. */
  async #adopt(job: Job): Promise<{ task: TaskName; sent: Sent } | undefined> {
    const task = await this.#waves.taskOf(job.key);
    const wave = task === undefined ? undefined : await this.#waves.read(task);
    if (task === undefined || wave?.tasks[task.index]?.key !== job.key) return undefined;
    const id = await this.#waves.jobOf(task);
    const where = id === undefined ? wave.name : `${id}_${task.index}`;
    const cluster = await this.#ownCluster(job.signal);
    if (wave.cluster !== cluster) {
      throw new UserError(
        `${job.node.name} is job ${where} of the cluster ${wave.cluster}; expected to be on that cluster, not on ${cluster}.`,
      );
    }
    if (job.fresh) {
      // From scratch: what is under way is not what was asked for. Should it start all the same, it ends at once.
      await this.#waves.release(job.key);
      if (id !== undefined) await this.#client.cancel(wave.name, [where]).catch(() => {});
      return undefined;
    }
    job.display.line(`${job.node.name}: was sent before, as Slurm job ${where}`);
    // Another node of the run may have found the wave meanwhile.
    const sent = this.#sent.get(wave.name) ??
      { wave, at: performance.now(), ...id !== undefined && { job: id } };
    return { task, sent };
  }

  /** The cluster's name, once Slurm answers. */
  async #ownCluster(signal: AbortSignal): Promise<string> {
    for (let wait = FIRST_POLL; this.#cluster === undefined; wait *= BACKOFF) {
      try {
        this.#cluster = await this.#client.cluster();
        this.#answered();
      } catch (error) {
        this.#unanswered(error);
        await this.#sleep(Math.min(wait, this.#longest));
        signal.throwIfAborted();
      }
    }
    return this.#cluster;
  }

  get #longest(): number {
    return this.#options.slurm.poll_seconds * 1000;
  }

  /** Sends what falls due within a moment together. */
  #gather(): void {
    this.#pause = FIRST_POLL;
    this.#gathering ??= setTimeout(async () => {
      try {
        await this.#submitDue();
      } catch (error) {
        this.#failUnsent(error);
      } finally {
        this.#gathering = undefined;
      }
    }, GATHER);
  }

  #failUnsent(error: unknown): void {
    for (const pending of [...this.#pending.values()]) {
      if (pending.task === undefined) pending.settle(asError(error));
    }
  }

  /** Sends nodes that are due, as far as their stages may have more jobs. */
  async #submitDue(): Promise<void> {
    const byStage = Map.groupBy(
      [...this.#pending.values()].filter(({ task }) => task === undefined),
      ({ job }) => job.node.stage.name,
    );
    for (const [stage, due] of byStage) {
      for (let room = this.#room(stage); room > 0 && due.length > 0; room = this.#room(stage)) {
        await this.#submit(due.splice(0, LARGEST_ARRAY), room);
        if (this.#interrupted) return;
      }
    }
  }

  /** How many more jobs of a stage may run at a time. */
  #room(stage: string): number {
    let taken = 0;
    for (const { wave } of this.#sent.values()) {
      if (wave.stage !== stage) continue;
      taken += Math.min(wave.throttle, this.#tasksOf(wave).length);
    }
    return this.#options.slurm.max_jobs - taken;
  }

  #tasksOf(wave: Wave): Pending[] {
    return [...this.#pending.values()].filter(({ task }) => task?.wave === wave.name);
  }

  async #submit(due: readonly Pending[], room: number): Promise<void> {
    const [{ job: first }] = due as [Pending];
    const cluster = await this.#ownCluster(first.signal);
    const { stage } = first.node;
    const wave: Wave = {
      format: 1,
      name: `${stage.name}-${crypto.randomUUID()}`,
      run: first.run,
      stage: stage.name,
      cluster,
      throttle: Math.min(room, due.length),
      tasks: due.map(({ job: { key, node } }) => ({ key, node: node.name })),
    };
    if (this.#interrupted) return;
    const script = jobScript(this.#options, { ...wave, node: first.node });
    await this.#waves.write(wave, script);
    for (const [index, pending] of due.entries()) {
      pending.task = { ...nameOf(wave), index };
      delete pending.idle;
    }
    // Whoever was asked whether to cancel has not been asked about these.
    if (this.#interrupted) return;
    const sent: Sent = { wave, at: performance.now() };
    this.#sent.set(wave.name, sent);
    await this.#send(sent);
  }

  /** Gives an array to Slurm. When Slurm is silent, the next look at the queue tells whether it has it. */
  async #send(sent: Sent): Promise<void> {
    const { wave } = sent;
    sent.at = performance.now();
    try {
      const id = await this.#client.submit("script.sh", this.#waves.dir(nameOf(wave)));
      this.#answered();
      await this.#noteJob(sent, id);
    } catch (error) {
      if (error instanceof SlurmSilent) return this.#unanswered(error);
      for (const pending of this.#tasksOf(wave)) {
        await this.#waves.release(pending.job.key);
        const dir = this.#waves.dir(nameOf(wave));
        const message = `${messageOf(error)}. The script is ${dir}/script.sh`;
        pending.settle(new JobError(message, { refused: true }));
      }
      this.#sent.delete(wave.name);
    }
    this.#wake();
  }

  async #noteJob(sent: Sent, id: string): Promise<void> {
    const { wave } = sent;
    sent.job = id;
    await this.#waves.noteJob(nameOf(wave), id);
    const nodes = wave.tasks.length === 1 ? wave.tasks[0]!.node : `${wave.tasks.length} nodes`;
    const limit = wave.throttle < wave.tasks.length ? `, ${wave.throttle} at a time` : "";
    this.#display?.line(`${wave.stage}: Slurm job ${id} is ${nodes}${limit}`);
  }

  /** Looks after the tasks until none is left. */
  async #poll(): Promise<void> {
    if (this.#polling) return;
    this.#polling = true;
    while (this.#pending.size > 0) {
      await this.#sleep(this.#pause);
      const news = await this.#look().catch((error) => {
        if (error instanceof SlurmSilent) {
          this.#unanswered(error);
          return false;
        }
        for (const pending of [...this.#pending.values()]) pending.settle(asError(error));
        return true;
      });
      this.#pause = news ? FIRST_POLL : Math.min(this.#pause * BACKOFF, this.#longest);
    }
    this.#polling = false;
  }

  async #sleep(milliseconds: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** One look at the store's files and the queue. Returns whether anything has changed. */
  async #look(): Promise<boolean> {
    const queue = await this.#queue();
    let news = false;
    for (const pending of [...this.#pending.values()]) {
      if (pending.task === undefined) {
        // Whoever leaves doesn't wait for the jobs before.
        const stage = pending.job.node.stage.name;
        if (this.#options.detach && this.#room(stage) <= 0) {
          pending.settle(new SubmittedError("waits until its stage may have more jobs (max_jobs)"));
        }
        continue;
      }
      const queued = queue?.get(`${pending.task.wave}/${pending.task.index}`);
      const examined = this.#examine(pending, queued, { answered: queue !== undefined });
      news = await examined.catch((error) => {
        pending.settle(asError(error));
        return true;
      }) || news;
    }
    for (const [name, sent] of this.#sent) {
      if (this.#tasksOf(sent.wave).length === 0) this.#sent.delete(name);
    }
    if ([...this.#pending.values()].some(({ task }) => task === undefined)) this.#gather();
    return news;
  }

  /** The queue by wave and index; nothing when Slurm is silent. */
  async #queue(): Promise<Map<string, QueuedTask> | undefined> {
    let tasks: QueuedTask[];
    try {
      tasks = await this.#client.queue();
    } catch (error) {
      this.#unanswered(error);
      return undefined;
    }
    this.#answered();
    const queue = new Map<string, QueuedTask>();
    for (const task of tasks) {
      const sent = this.#sent.get(task.name);
      if (sent === undefined) continue;
      if (sent.job === undefined) await this.#noteJob(sent, task.job);
      // Sent twice, as Slurm took it and did not say so.
      if (task.job !== sent.job) {
        await this.#client.cancel(task.name, [`${task.job}_${task.index}`]);
      } else queue.set(`${task.name}/${task.index}`, task);
    }
    for (const sent of this.#sent.values()) {
      const lost = sent.job === undefined && performance.now() - sent.at > UNANSWERED;
      if (lost && !this.#interrupted) await this.#send(sent);
    }
    return queue;
  }

  /** Settles a task that has ended. Returns whether it did, or moved on. */
  async #examine(
    pending: Pending,
    queued: QueuedTask | undefined,
    { answered }: { answered: boolean },
  ): Promise<boolean> {
    const { job, task } = pending as Pending & { task: TaskName };
    const { store, detach } = this.#options;
    const manifest = await store.records.readNode(job.key);
    if (manifest !== undefined && !isPublication(manifest, job.replaces)) {
      const record = await store.takeIn(job.key);
      await this.#waves.release(job.key);
      const log = this.#waves.logPath(task);
      for (const run of new Set([job.run, this.#sent.get(task.wave)!.wave.run])) {
        await new JobFiles(store.dir, run).removeTicket(job.key);
      }
      pending.settle(record ?? new JobError(`It published damaged objects. Its log is ${log}`));
      return true;
    }
    const sent = this.#sent.get(task.wave)!;
    // Without Slurm's word a job may still run, whatever its files say; and one without an id is not yet with Slurm.
    if (!answered || sent.job === undefined) {
      delete pending.idle;
      return false;
    }
    if (queued !== undefined && !HAS_ENDED.test(queued.state)) delete pending.idle;
    else pending.idle ??= performance.now();
    const end = await this.#waves.endOf(task);
    const accounted = queued === undefined
      ? await this.#client.account(sent.job, task.index)
      : undefined;
    const verdict = judge({
      node: job.node.name,
      ...queued !== undefined && { queued },
      ...accounted !== undefined && { accounted },
      ...end !== undefined && { end },
      quiet: pending.idle === undefined ? 0 : (performance.now() - pending.idle) / 1000,
    });
    if (verdict.state === "active") {
      if (queued !== undefined && isWaiting(queued)) this.#tellWhy(pending, queued.reason);
      if (!detach) return false;
      pending.settle(new SubmittedError(`Slurm job ${sent.job}_${task.index}`));
      return true;
    }
    await this.#waves.release(job.key);
    if (verdict.state === "again") {
      job.display.line(`${job.node.name}: stopped at a checkpoint and is sent again`);
      delete pending.task;
      // The state that it goes on from is there by now.
      await new JobFiles(store.dir, job.run).writeTicket({ ...job, fresh: false }, "");
      return true;
    }
    const message = `Slurm job ${sent.job}_${task.index}: ${verdict.message.replace(/\.?$/, ".")}`;
    const log = `Its log is ${this.#waves.logPath(task)}`;
    pending.settle(new JobError(`${message} ${log}`, { refused: !verdict.retry }));
    return true;
  }

  /** Says why a task waits, unless it waits for its turn. */
  #tellWhy(pending: Pending, reason: string): void {
    if (USUAL.has(reason) || pending.told === reason) return;
    pending.told = reason;
    pending.job.display.line(`${pending.job.node.name}: waits in Slurm's queue: ${reason}`);
  }

  #unanswered(error: unknown): void {
    if (!(error instanceof SlurmSilent)) throw error;
    if (this.#silent) return;
    this.#silent = true;
    this.#display?.line(`warning: Slurm does not answer (${error.message}); waiting for it`);
  }

  #answered(): void {
    if (this.#silent) this.#display?.line("Slurm answers again");
    this.#silent = false;
  }

  readonly #onInterrupt = async (): Promise<void> => {
    if (this.#interrupted) return;
    this.#interrupted = true;
    const ours = [...this.#pending.values()].filter(({ task }) => task !== undefined);
    try {
      if (ours.length > 0 && await this.#options.confirmCancel(ours.length)) {
        await this.#cancel(ours);
      }
    } catch (error) {
      this.#display?.line(`warning: ${messageOf(error)}; the jobs stay with Slurm`);
    }
    for (const pending of [...this.#pending.values()]) pending.settle(new Error("Interrupted"));
    this.#wake();
  };

  async #cancel(ours: readonly Pending[]): Promise<void> {
    let cancelled = 0;
    for (const [wave, members] of Map.groupBy(ours, ({ task }) => task!.wave)) {
      const id = this.#sent.get(wave)?.job;
      if (id === undefined) continue;
      await this.#client.cancel(wave, members.map(({ task }) => `${id}_${task!.index}`));
      cancelled += members.length;
    }
    for (const { job } of ours) await this.#waves.release(job.key);
    this.#display?.line(`Cancelled ${cancelled} jobs`);
  }
}

/** Words for tasks that have ended, or are about to. */
const HAS_ENDED =
  /^(COMPLETED|COMPLETING|FAILED|CANCELLED|TIMEOUT|NODE_FAIL|BOOT_FAIL|PREEMPTED|DEADLINE|OUT_OF_MEMORY|REVOKED)$/;
/** Reasons that need no word. */
const USUAL = new Set(["None", "Resources", "Priority", "JobArrayTaskLimit", "BeginTime"]);

function nameOf({ run, name }: Wave): WaveName {
  return { run, wave: name };
}

function isWaiting({ state }: QueuedTask): boolean {
  return state === "PENDING";
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
