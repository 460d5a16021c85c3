import { assertEquals, assertStringIncludes } from "@std/assert";
import { type Evidence, judge, type Verdict } from "./verdict.ts";

/** A verdict on `train` in one word, with its message. */
function of(evidence: Partial<Evidence>): string {
  const verdict: Verdict = judge({ node: "train", quiet: 0, ...evidence });
  if (verdict.state !== "failed") return verdict.state;
  return `${verdict.retry ? "retry" : "give up"}: ${verdict.message}`;
}

const queued = (state: string, reason = "None") => ({ state, reason });

Deno.test("A task in the queue is active, whatever an earlier start of it said", () => {
  for (const state of ["PENDING", "RUNNING", "COMPLETING", "REQUEUED", "SUSPENDED"]) {
    assertEquals(of({ queued: queued(state), end: { state: "paused" }, quiet: 99 }), "active");
  }
});

Deno.test("A task that stopped at a checkpoint goes on, however Slurm calls it", () => {
  for (const state of ["FAILED", "TIMEOUT", "PREEMPTED", "COMPLETED"]) {
    assertEquals(of({ queued: queued(state), end: { state: "paused" } }), "again");
  }
  assertEquals(of({ end: { state: "paused" } }), "again");
});

Deno.test("A cancelled task is not sent again", () => {
  const end = { state: "paused" } as const;
  assertEquals(of({ queued: queued("CANCELLED"), end }), "give up: it was cancelled");
  assertEquals(of({ accounted: "CANCELLED", quiet: 99 }), "give up: it was cancelled");
});

Deno.test("A task's own words explain its failure; Slurm's fill in", () => {
  const end = { state: "failed", message: "The loss is not finite" } as const;
  assertEquals(of({ queued: queued("FAILED", "NonZeroExitCode"), end }), `retry: ${end.message}`);
  assertEquals(
    of({ queued: queued("FAILED"), end: { ...end, state: "refused" } }),
    `give up: ${end.message}`,
  );
  const full = { state: "failed", message: "write", code: "ENOSPC" } as const;
  assertEquals(
    of({ queued: queued("FAILED"), end: full }),
    "retry: The disk is full while running train.",
  );
  assertEquals(
    of({ queued: queued("FAILED", "RaisedSignal:9(Killed)") }),
    "retry: it was ended (RaisedSignal:9(Killed))",
  );
  assertStringIncludes(of({ queued: queued("OUT_OF_MEMORY") }), "retry: it was killed for want of");
  assertStringIncludes(of({ accounted: "NODE_FAIL" }), "retry: its host failed");
  assertStringIncludes(
    of({ queued: queued("TIMEOUT") }),
    "retry: it was not done at its time limit",
  );
});

Deno.test("A task that left no trace is waited for before it is given up", () => {
  assertEquals(of({ queued: queued("COMPLETED"), quiet: 5 }), "active");
  assertStringIncludes(of({ queued: queued("COMPLETED"), quiet: 11 }), "without publishing");
  assertEquals(of({ queued: queued("FAILED", "NonZeroExitCode"), quiet: 5 }), "active");
  assertEquals(of({ quiet: 29 }), "active");
  assertStringIncludes(of({ quiet: 31 }), "retry: Slurm knows nothing of its job any more");
});
