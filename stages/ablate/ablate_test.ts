import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import type { JsonValue, MetricRow, NodeOutput, StageContext } from "../../pipeline/stage.ts";
import { ablate, type AblateParams } from "./ablate.ts";
import { ablationSchema, measuredSchema } from "./result.ts";

const params: AblateParams = {
  cells: [
    { name: "base", base: true, factors: { d_latent: 16 } },
    { name: "d_latent=8", base: false, factors: { d_latent: 8 } },
  ],
  factors: [{
    name: "d_latent",
    title: "Latent width",
    values: [{ value: 8, cell: "d_latent=8" }, { value: 16, cell: "base" }],
  }],
  runs: [
    { cell: "base", seed: 1 },
    { cell: "base", seed: 2 },
    { cell: "base", seed: 3 },
    { cell: "d_latent=8", seed: 3 },
    { cell: "d_latent=8", seed: 1 },
  ],
};

function node(stage: string, json: JsonValue, metrics: readonly MetricRow[] = []): NodeOutput {
  const unused = () => {
    throw new Error("not read");
  };
  return {
    name: stage,
    stage,
    key: "",
    params: null,
    labels: {},
    provenance: {},
    json: () => json,
    measured: unused,
    file: unused,
    files: unused,
    metrics: () => Promise.resolve(metrics),
  };
}

function unwritten(): void {
  throw new Error("ablate writes no metrics");
}

/** A stage's context that keeps what is published. */
function contextOf(inputs: StageContext<AblateParams>["inputs"]) {
  const published: Record<string, JsonValue> = {};
  const measured: Record<string, JsonValue> = {};
  const warnings: string[] = [];
  const context: StageContext<AblateParams> = {
    params,
    inputs,
    node: { name: "ablate", key: "", run: "" },
    output: () => "",
    json: (name, value) => void (published[name] = value),
    measured: (name, value) => void (measured[name] = value),
    stateDir: "",
    metrics: {
      write: unwritten,
      measure: unwritten,
      rewind: () => {},
      flush: () => {},
    },
    samples: { write: unwritten, take: unwritten, rewind: unwritten, text: () => "" },
    progress: () => ({ update: () => {} }),
    assertInKey: () => {},
    object: (sha256) => sha256,
    log: { info: () => {}, warn: (message) => void warnings.push(message) },
    signal: new AbortController().signal,
  };
  return { context, published, measured, warnings };
}

const evaluations = [2.0, 2.2, 2.4, 2.7, 2.1].map((nats) =>
  node("evaluate", { nats, perplexity: Math.exp(nats), expert_usage: [1, 2], note: "text" })
);
const speeds = (...values: number[]) =>
  node("train", {}, [
    ...values.map((value, step) => ({ step, name: "tokens_per_second", value, measured: true })),
    { step: 0, name: "memory_bytes", value: values.length * 1000, measured: true },
  ]);
const trained = [
  speeds(1, 100, 102, 104),
  speeds(2, 110, 112, 114),
  speeds(3, 120, 122, 124),
  speeds(50, 60),
  speeds(50, 60, 70),
];

Deno.test("cells are summarised and compared with the base by seed", async () => {
  const { context, published } = contextOf({ train: trained, evaluate: evaluations });
  await ablate.run(context);
  const ablation = ablationSchema.parse(published.ablation);
  assertEquals<unknown>(published.ablation, ablation, "the schema knows every field");
  assertEquals([ablation.base, ablation.confidence], ["base", 0.95]);
  assertEquals(ablation.cells.map(({ name, seeds }) => [name, seeds]), [
    ["base", [1, 2, 3]],
    ["d_latent=8", [3, 1]],
  ]);
  const [base, narrow] = ablation.cells;
  assertEquals(Object.keys(base?.metrics ?? {}), ["nats", "perplexity"]);
  assertAlmostEquals(base?.metrics.nats?.mean ?? NaN, 2.2, 1e-12);
  // 4.302653 · 0.2 / √3
  assertAlmostEquals(base?.metrics.nats?.high ?? NaN, 2.2 + 0.496828, 1e-5);
  assertAlmostEquals(narrow?.metrics.nats?.mean ?? NaN, 2.4, 1e-12);

  const [eight, sixteen] = ablation.factors[0]?.values ?? [];
  assertEquals(sixteen, { value: 16, cell: "base", base: true, difference: null });
  const difference = eight?.difference?.nats;
  // Seeds 3 and 1: 2.7 − 2.4 and 2.1 − 2.0; not 2.7 − 2.0.
  assertEquals(difference?.n, 2);
  assertAlmostEquals(difference?.mean ?? NaN, 0.2, 1e-12);
  // t = 0.2 / (√0.02 / √2) = 2 with one degree of freedom: p = 1 − 2 atan(2)/π.
  assertAlmostEquals(difference?.p ?? NaN, 1 - 2 * Math.atan(2) / Math.PI, 1e-9);
});

Deno.test("what was measured is an output of its own, and not in the JSON", async () => {
  const first = contextOf({ train: trained, evaluate: evaluations });
  await ablate.run(first.context);
  const rows = measuredSchema.parse(first.measured.measured);
  assertEquals<unknown>(first.measured.measured, rows, "the schema knows every field");
  assertEquals(rows.map(({ cell, quantity, n }) => [cell, quantity, n]), [
    ["base", "tokens_per_second", 3],
    ["base", "memory_bytes", 3],
    ["d_latent=8", "tokens_per_second", 2],
    ["d_latent=8", "memory_bytes", 2],
  ]);
  const [speed, memory, narrowSpeed] = rows;
  assertAlmostEquals(speed!.mean, (101 + 111 + 121) / 3);
  assert(speed!.low! < speed!.mean && speed!.mean < speed!.high! && speed!.sd! > 0);
  assertEquals([memory!.mean, narrowSpeed!.mean], [4000, 57.5]);

  const slower = [speeds(9), speeds(8), speeds(7), speeds(6), speeds(5)];
  const second = contextOf({ train: slower, evaluate: evaluations });
  await ablate.run(second.context);
  assertEquals(JSON.stringify(second.published), JSON.stringify(first.published));

  const none = contextOf({ train: trained.map(() => node("train", {})), evaluate: evaluations });
  await ablate.run(none.context);
  assertEquals([none.measured.measured, none.warnings.length], [[], 2]);
});

Deno.test("inputs that don't fit the runs are an error", async () => {
  const short = contextOf({ train: trained, evaluate: evaluations.slice(1) });
  await assertRejects(
    () => ablate.run(short.context),
    Error,
    "Expected 5 evaluate inputs, one a run, got 4",
  );
  const empty = contextOf({
    train: trained,
    evaluate: evaluations.map(() => node("evaluate", {})),
  });
  await assertRejects(() => ablate.run(empty.context), Error, "has no finite nats");
});
