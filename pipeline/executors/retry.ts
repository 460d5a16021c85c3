/**
 * Tries a node again that failed.
 *
 * @module
 */

import { isDiskError, messageOf } from "../errors.ts";
import { type Executor, type Job, SubmittedError } from "./executor.ts";
import { JobError } from "./job_error.ts";

/**
 * An executor that runs a failed node up to `retries` times more. A full disk, a job that refused and an interrupt are
 * no reasons to try again. The next attempt goes on from the node's state folder.
 */
export function withRetries(executor: Executor, retries: number): Executor {
  if (retries === 0) return executor;
  return {
    gpus: executor.gpus,
    ...executor.cpus !== undefined && { cpus: executor.cpus },
    ...executor.prepare && { prepare: (start) => executor.prepare!(start) },
    ...executor.end && { end: () => executor.end!() },
    async run(job: Job) {
      for (let attempt = 1;; attempt++) {
        try {
          return await executor.run(attempt === 1 ? job : { ...job, fresh: false });
        } catch (error) {
          const refused = error instanceof JobError && error.refused;
          if (
            error instanceof SubmittedError || attempt > retries || job.signal.aborted ||
            isDiskError(error) || refused
          ) throw error;
          job.display.line(
            `${job.node.name}: ${messageOf(error)}; attempt ${attempt + 1} of ${retries + 1}`,
          );
        }
      }
    },
  };
}
