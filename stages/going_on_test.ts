/** Trainings that go on from others, as a user runs them: extended, started from a node of the store, upcycled. */

import { assertEquals, assertStringIncludes } from "@std/assert";
import type { JsonValue } from "../pipeline/stage.ts";
import { Sandbox, states, type Summary } from "./reproduce_testing.ts";

const CONFIG = "configs/testing/sparse_moe_offline.yaml";
const SET = (...values: string[]) => values.flatMap((value) => ["--set", value]);
/** A dense model that experts of the configuration can be copies of, and a constant rate. */
const DENSE = SET(
  "ablations=[]",
  "model.ffn.kind=dense",
  "model.ffn.d_ffn=16",
  "model.ffn.activation=gelu_exact",
  "train.steps=6",
  "train.learning_rate.cosine_end=20",
);
const FROM = "train.initial.checkpoint=train[base,seed=1]";

Deno.test("a finished training is extended, started from, and upcycled", async () => {
  await using sandbox = await Sandbox.create(CONFIG);
  const train = (...args: string[]) =>
    sandbox.json<Summary>("reproduce", "--only", "train", ...args);
  const done = await train(...DENSE);
  assertEquals(done.problems, []);
  assertEquals(states(done)["train[base,seed=1]"], "done");

  const extended = states(await train(...DENSE, "--extend", "9"));
  assertEquals(extended["train[base,seed=1]"], "cached");
  assertEquals(extended["train[base,seed=1,extend=9]"], "done");
  const recordOf = async (name: string, key?: string) =>
    (await sandbox.records()).find((r) => r.node === name && (key === undefined || r.key !== key))!;
  const finished = await recordOf("train[base,seed=1]");
  const longer = await recordOf("train[base,seed=1,extend=9]");
  const rows = async (sha256: string) =>
    (await Deno.readTextFile(sandbox.object(sha256))).trimEnd().split("\n");
  const [before, after] = [
    await rows(finished.metrics!.sha256),
    await rows(longer.metrics!.sha256),
  ];
  assertEquals(after.slice(0, before.length), before);
  // The cosine ends later, so the first updates are those of a training that was as long from the beginning.
  const whole = await train(...DENSE, ...SET("train.steps=9"));
  assertEquals(states(whole)["train[base,seed=1]"], "done");
  const model = (record: typeof finished) => {
    const { checkpoint } = record.outputs;
    return checkpoint?.kind === "directory"
      ? checkpoint.files.find(({ path }) => path === "last/model.safetensors")?.sha256
      : undefined;
  };
  const fromTheBeginning = await recordOf("train[base,seed=1]", finished.key);
  assertEquals(model(longer), model(fromTheBeginning));

  const sparse = SET("ablations=[]", FROM, "train.initial.upcycle.noise=0.01", "train.steps=4");
  const refused = await sandbox.run("reproduce", "--only", "train", ...SET(FROM));
  assertEquals(refused.code, 2);
  assertStringIncludes(refused.stderr, "is of another model: ffn.kind is dense, expected topk_moe");
  assertEquals(refused.stderr.trimEnd().split("\n").length, 1, refused.stderr);
  // From its key, for a node of this name is trained next.
  const by_key = sparse.map((word) => word.replace("train[base,seed=1]", finished.key));
  assertEquals(states(await train(...by_key))["train[base,seed=1]"], "done");
  const summaries = (await sandbox.records()).flatMap(({ outputs: { summary } }) =>
    summary?.kind === "json" ? [summary.value as { initial?: Record<string, JsonValue> }] : []
  );
  const { initial } = summaries.find(({ initial }) => initial !== undefined)!;
  assertEquals(
    (initial!["initial"] as { name: string }[]).map(({ name }) => name),
    ["layers.0.ffn.w_g", "layers.1.ffn.w_g"],
  );
  assertEquals([initial!["unused"], initial!["differences"]], [[], []]);

  const short = await sandbox.run("reproduce", ...DENSE, "--extend", "5");
  assertEquals(short.code, 2);
  assertStringIncludes(short.stderr, "train.extend: 5 is not beyond the 6 updates");
});
