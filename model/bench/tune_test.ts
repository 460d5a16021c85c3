import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import type { Question } from "../gpu/question.ts";
import { openTestGpu } from "../gpu/testing.ts";
import { castInto } from "../ops/elementwise/cast.ts";
import { assertNear } from "../ops/testing.ts";
import { Trainer } from "../training/trainer.ts";
import { tinyConfig, tinyTrain } from "../training/trainer_testing.ts";
import { bestCandidate, candidateCode, measureCandidates, trainingQuestions } from "./tune.ts";

const config = tinyConfig({ d_model: 64, d_ffn: 128 });
const train = tinyTrain({ sequence_length: 64, micro_batch: 8, gradient_accumulation: 3 });
const ID = "product.tn.64x128x512.f32.f32.f32";

Deno.test("trainingQuestions() counts what an update asks, and takes no weight's memory", async () => {
  const gpu = await openTestGpu({ software: false });
  const questions = trainingQuestions(gpu, { config, train });
  const times = new Map(questions.map(({ question, times }) => [question.id, times]));
  // Both branches of the dense layer: gradients of the first micro-batch, and those added by the others.
  assertEquals(times.get(ID), 2);
  assertEquals(times.get(`${ID}.accumulate`), 4);
  assert(questions.every(({ question }) => question.candidates.length > 1));
  // What is pinned is measured all the same.
  const pinned = { ...train, tuning: { [ID]: "none such" } };
  assertEquals(trainingQuestions(gpu, { config, train: pinned }).length, questions.length);
  const software = await openTestGpu({ software: true });
  assertEquals(trainingQuestions(software, { config, train }), []);
});

Deno.test("measureCandidates() times every way, and their digests tell them apart", async () => {
  const gpu = await openTestGpu({ software: false });
  const asked = trainingQuestions(gpu, { config, train });
  const { question } = asked.find(({ question }) => question.id === ID)!;
  const timing = { warmup: 1, repeats: 2, minimum: 0, settle: 0.001 };
  const { seconds, wrong } = await measureCandidates(gpu, question, timing);
  assertEquals(wrong.size, 0);
  assertEquals([...seconds.keys()], ["64x64/2", "64x64"]);
  assert(seconds.values().every((time) => time > 0 && time < 1));
  const codes = question.candidates.map((name) => candidateCode(gpu, question, name));
  assertEquals(new Set(codes).size, 2);
  assertEquals(candidateCode(gpu, question, "64x64"), codes[1]);
});

Deno.test("measureCandidates() leaves out what gives other results than the rule's way", async () => {
  const gpu = await openTestGpu();
  const ways = ["right", "also right", "wrong"];
  const question: Question = {
    id: "copy",
    candidates: ways,
    record(plan, tensor) {
      const [a, b, c] = ["a", "b", "c"].map((name) => tensor(name, [300, 4], "f32"));
      const chosen = plan.choose(question);
      plan.copy(chosen === "wrong" ? b! : a!, c!);
      // A copy between buffers is no dispatch: what it wrote goes through a kernel.
      castInto(plan, "cast", { from: c!, to: tensor("d", [300, 4], "f16") });
    },
  };
  const timing = { warmup: 1, repeats: 1, minimum: 0, settle: 0 };
  const { seconds, wrong } = await measureCandidates(gpu, question, timing);
  assertEquals([...seconds.keys()], ["right", "also right"]);
  assertEquals([...wrong.keys()], ["wrong"]);
  assert(wrong.get("wrong")! > 0.1);
});

Deno.test("bestCandidate() keeps the rule's way unless another is clearly faster", () => {
  const question: Question = { id: "q", candidates: ["a", "b", "c"], record() {} };
  const best = (...seconds: number[]) =>
    bestCandidate(question, new Map(question.candidates.map((name, i) => [name, seconds[i]!])));
  assertEquals(best(1, 2, 3), "a");
  assertEquals(best(1, 0.985, 3), "a");
  assertEquals(best(1, 0.97, 0.96), "c");
});

Deno.test("a trainer computes as its tuning says: other last bits, and the same gradient", async () => {
  const gpu = await openTestGpu({ software: false });
  const config = tinyConfig({ kind: "dense", num_layers: 1, d_model: 32 });
  const sizes = { sequence_length: 64, micro_batch: 8 };
  const asked = trainingQuestions(gpu, { config, train: tinyTrain(sizes) });
  const cut = asked.filter(({ question }) => question.candidates.join() === "64x64/2,64x64");
  const whole = Object.fromEntries(cut.map(({ question }) => [question.id, "64x64"]));
  const name = "layers.0.ffn.w_down";
  const run = async (tuning?: Record<string, string>) => {
    const train = tinyTrain({ ...sizes, ...(tuning && { tuning }) });
    const trainer = await Trainer.create(gpu, { config, train, seed: 1 });
    try {
      const tokens = Uint32Array.from({ length: 512 }, (_, i) => i * 7 % 61);
      trainer.update([{ tokens, targets: tokens }]);
      const loss = (await trainer.records())[0]!.loss;
      const { unusedChoices } = trainer;
      return { loss, unusedChoices, gradient: await trainer.readGradient(name) };
    } finally {
      trainer.destroy();
    }
  };
  assert(Object.keys(whole).length > 2);
  const [rule, tuned] = [await run(), await run({ ...whole, "product.elsewhere": "64x64" })];
  assertEquals([rule.unusedChoices, tuned.unusedChoices], [[], ["product.elsewhere"]]);
  assertEquals(tuned.loss, rule.loss);
  assertNotEquals(tuned.gradient, rule.gradient);
  assertNear(tuned.gradient, Float64Array.from(rule.gradient), { tolerance: 1e-5, what: name });
  const [id] = Object.keys(whole) as [string];
  await assertRejects(
    () => run({ [id]: "matrix:128x128" }),
    RangeError,
    `The tuning answers ${id} with "matrix:128x128"; this device offers 64x64/2, 64x64`,
  );
});
