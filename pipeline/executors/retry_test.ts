import { assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import type { Executor, Job } from "./executor.ts";
import { JobError } from "./job_error.ts";
import { withRetries } from "./retry.ts";
import type { NodeRecord } from "../store/records/records.ts";

const RECORD = { key: "k" } as NodeRecord;

/** An executor that fails with each of the errors in turn, then publishes. */
function failing(errors: readonly Error[]): { executor: Executor; fresh: boolean[] } {
  const fresh: boolean[] = [];
  const run = (job: Job) => {
    const error = errors[fresh.length];
    fresh.push(job.fresh);
    return error === undefined ? Promise.resolve(RECORD) : Promise.reject(error);
  };
  return { executor: { gpus: 3, run }, fresh };
}

function job(lines: string[], signal = new AbortController().signal): Job {
  const display = { line: (text: string) => void lines.push(text) };
  return { node: { name: "train" }, fresh: true, display, signal } as unknown as Job;
}

Deno.test("a failed node is tried again, from where it was, and each failure told", async () => {
  const lines: string[] = [];
  const { executor, fresh } = failing([new JobError("Killed."), new Error("Odd")]);
  const retrying = withRetries(executor, 2);
  assertEquals(retrying.gpus, 3);
  assertEquals(await retrying.run(job(lines)), RECORD);
  assertEquals(fresh, [true, false, false]);
  assertEquals(lines, ["train: Killed; attempt 2 of 3", "train: Odd; attempt 3 of 3"]);
});

Deno.test("the last failure, a full disk, a refusal and an interrupt are passed on", async () => {
  const full = Object.assign(new Error("write"), { code: "ENOSPC" });
  const aborted = AbortSignal.abort();
  const cases: [Error, number, AbortSignal?][] = [
    [new Error("Odd"), 2],
    [full, 1],
    [new JobError("Other code", { refused: true }), 1],
    [new Error("Interrupted"), 1, aborted],
  ];
  for (const [error, attempts, signal] of cases) {
    const { executor, fresh } = failing([error, error, error]);
    await assertRejects(() => withRetries(executor, 1).run(job([], signal)), Error, error.message);
    assertEquals(fresh.length, attempts, error.message);
  }
  const { executor } = failing([]);
  assertStrictEquals(withRetries(executor, 0), executor);
});
