/**
 * The program of a rank: `mpirun -n 4 deno run … rank.ts JOB`, where the job's file is what the `train` stage wrote.
 *
 * The first rank does what the stage would, and tells it by lines on standard output; the others compute gradients. An error in any rank is said in
 * one line, and ends them all.
 *
 * @module
 */

import { TextLineStream } from "@std/streams";
import { openGpu } from "../../../model/gpu/open.ts";
import { agree } from "../../../model/training/groups/agreement.ts";
import { MpiRanks } from "../../../model/training/mpi/mpi_ranks.ts";
import type { TrainingHooks } from "../../../model/training/training.ts";
import { gpuProvenance } from "../../shared_gpu.ts";
import { followModel, trainModel } from "../train_model.ts";
import type { RankJob, RankMessage, StageLine } from "./messages.ts";

/** Milliseconds between two attempts to be the only training of a folder, and after how many of them the rank gives up. */
const LOCK_PAUSE = 100;
const LOCK_ATTEMPTS = 600;
/** Milliseconds in which `mpirun` takes over what a rank wrote before it ends. */
const LAST_WORDS = 200;

function tell(message: RankMessage): void {
  const bytes = new TextEncoder().encode(JSON.stringify(message) + "\n");
  for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
}

/** The stage's lines. */
class Stage {
  readonly #stop = new AbortController();
  #flushed: (() => void) | undefined;

  /** Aborted when the stage asks to stop. */
  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  /** Reads lines until there are no more, which is when the stage is no more. */
  async listen(): Promise<void> {
    const lines = Deno.stdin.readable.pipeThrough(new TextDecoderStream())
      .pipeThrough(new TextLineStream());
    for await (const line of lines) {
      switch (line as StageLine) {
        case "flushed":
          this.#flushed?.();
          break;
        case "stop":
          this.#stop.abort(new Error("asked to stop"));
          break;
      }
    }
  }

  /** Resolves when what was told so far is safe. */
  flush(): Promise<void> {
    return new Promise((resolve) => {
      this.#flushed = resolve;
      tell({ kind: "flush" });
    });
  }
}

/** Waits until no earlier training writes to the folder; the lock is the process's, and ends with it. */
async function lockFolder(folder: string): Promise<Deno.FsFile> {
  await Deno.mkdir(folder, { recursive: true });
  const file = await Deno.open(`${folder}/ranks.lock`, { create: true, write: true });
  for (let attempt = 0; attempt < LOCK_ATTEMPTS; attempt++) {
    if (await file.tryLock(true)) return file;
    await new Promise((resolve) => setTimeout(resolve, LOCK_PAUSE));
  }
  throw new Error(`another training writes checkpoints to ${folder}; expected it to have ended`);
}

async function runFirst(job: RankJob, ranks: MpiRanks, stage: Stage): Promise<void> {
  using _lock = await lockFolder(job.folder);
  const hooks: TrainingHooks = {
    rewind: (step) => tell({ kind: "rewind", step }),
    write: (step, values) => tell({ kind: "write", step, values: { ...values } }),
    measure: (step, values) => tell({ kind: "measure", step, values: { ...values } }),
    sample: (step, samples) => tell({ kind: "sample", step, samples: [...samples] }),
    flush: () => stage.flush(),
    progress: (step, remark) => tell({ kind: "progress", step, remark }),
    info: (message) => tell({ kind: "info", message }),
    warn: (message) => tell({ kind: "warn", message }),
  };
  const { signal } = stage;
  const options = await processOptions(job, ranks);
  tell({ kind: "provenance", ...gpuProvenance(options.gpu) });
  try {
    tell({ kind: "done", result: await trainModel(job, { ...options, hooks, signal }) });
  } catch (error) {
    if (!signal.aborted || error !== signal.reason) throw error;
    tell({ kind: "stopped" });
  }
}

async function processOptions(job: RankJob, ranks: MpiRanks) {
  return {
    gpu: await openGpu({ runtime: job.runtime }),
    ranks,
    onLoad(module: string) {
      if (job.modules.includes(module)) return;
      throw new Error(`${module} is not among the modules that the node's key covers`);
    },
  };
}

async function run(path: string, ranks: MpiRanks): Promise<void> {
  const job: RankJob = JSON.parse(await Deno.readTextFile(path));
  if (ranks.rank > 0) await followModel(job, await processOptions(job, ranks));
  else {
    const stage = new Stage();
    stage.listen().then(() => ranks.abort(1));
    await runFirst(job, ranks, stage);
  }
  // The others sleep until the first rank is done: the end of MPI waits at full speed.
  await agree(ranks, true);
  tell({ kind: "sent", rank: ranks.rank, ...ranks.sent });
  ranks.finalize();
}

if (import.meta.main) {
  const ranks = new MpiRanks();
  try {
    await run(Deno.args[0]!, ranks);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    tell({ kind: "failed", rank: ranks.rank, message });
    await new Promise((resolve) => setTimeout(resolve, LAST_WORDS));
    ranks.abort(1);
  }
  Deno.exit(0);
}
