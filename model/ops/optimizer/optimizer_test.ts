import { assert, assertEquals, assertRejects } from "@std/assert";
import { buildPlans } from "../../gpu/build.ts";
import type { Gpu } from "../../gpu/device.ts";
import { Plan } from "../../gpu/plan.ts";
import { openTestGpu } from "../../gpu/testing.ts";
import { download, packFields, unpackFields, upload } from "../../gpu/transfer.ts";
import { AdamW, clipByGlobalNorm } from "../../reference/optimizer.ts";
import { CONTROL, LOSS, METRICS, METRICS_RING, SCHEDULE } from "../control.ts";
import {
  type LossScaleOptions,
  type OptimizerOptions,
  recordUpdate,
  sumInto,
} from "./optimizer.ts";
import { assertNear, Inputs, noise, runOnce } from "../testing.ts";

const HYPER = { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weight_decay: 0.1, clip_norm: 1 };
const SIZE = 260;

/** Parameters `w` (decayed, with an f16 copy) and `b` on the GPU, and what updates them. */
class Bench implements Disposable {
  readonly #inputs: Inputs;
  readonly #gpu: Gpu;
  readonly #tensors;
  readonly #built;

  private constructor(
    gpu: Gpu,
    inputs: Inputs,
    tensors: ReturnType<typeof tensorsOf>,
    built: Awaited<ReturnType<typeof buildPlans>>,
  ) {
    this.#gpu = gpu;
    this.#inputs = inputs;
    this.#tensors = tensors;
    this.#built = built;
  }

  static async make(gpu: Gpu, options: Partial<OptimizerOptions> & { scale?: number } = {}) {
    const { scale = 1, ...hyper } = options;
    const inputs = new Inputs(gpu);
    const tensors = tensorsOf(inputs);
    upload(gpu, tensors.control, packFields(CONTROL, { loss_scale: scale }));
    const plan = new Plan(gpu, "update");
    const chunk = (name: "w" | "b") => ({
      value: tensors[name],
      gradient: tensors[`gradient.${name}`],
      m: tensors[`m.${name}`],
      v: tensors[`v.${name}`],
      operand: name === "w" ? tensors.operand : undefined,
    });
    recordUpdate(
      plan,
      [
        { decay: true, chunks: [chunk("w")] },
        { decay: false, chunks: [chunk("b")] },
      ],
      tensors,
      { ...HYPER, ...hyper },
    );
    return new Bench(gpu, inputs, tensors, await buildPlans(gpu, [plan]));
  }

  /** One update with these gradients, as stored: times the loss scale. */
  step(w: ArrayLike<number>, b: ArrayLike<number>, options: { lr?: number; loss?: number } = {}) {
    upload(this.#gpu, this.#tensors.schedule, packFields(SCHEDULE, { lr: options.lr ?? 0.01 }));
    const loss = { cross_entropy: options.loss ?? 2, balance: 0.5 };
    upload(this.#gpu, this.#tensors.loss, packFields(LOSS, loss));
    upload(this.#gpu, this.#tensors["gradient.w"], w);
    upload(this.#gpu, this.#tensors["gradient.b"], b);
    this.#built.plans[0]!.run();
  }

  read(name: keyof ReturnType<typeof tensorsOf>) {
    return download(this.#gpu, this.#tensors[name]);
  }

  /** Rows of the ring, from update `from` on. */
  async metrics(from: number, count: number) {
    const ring = await this.read("metrics");
    return Array.from(
      { length: count },
      (_, i) => unpackFields(METRICS, ring, { row: (from + i) % METRICS_RING }),
    );
  }

  [Symbol.dispose]() {
    this.#built.destroy();
    this.#inputs[Symbol.dispose]();
  }
}

function tensorsOf(inputs: Inputs) {
  const flat = (name: string, seed?: number) =>
    inputs.tensor(name, [SIZE], seed === undefined ? {} : { values: noise(SIZE, seed) });
  return {
    w: flat("w", 1),
    b: flat("b", 2),
    "gradient.w": flat("gradient.w"),
    "gradient.b": flat("gradient.b"),
    "m.w": flat("m.w"),
    "m.b": flat("m.b"),
    "v.w": flat("v.w"),
    "v.b": flat("v.b"),
    operand: inputs.tensor("operand", [SIZE], { dtype: "f16" }),
    control: inputs.tensor("control", [CONTROL.length]),
    schedule: inputs.tensor("schedule", [SCHEDULE.length]),
    loss: inputs.tensor("loss", [LOSS.length]),
    metrics: inputs.tensor("metrics", [METRICS_RING, METRICS.length]),
  };
}

Deno.test("recordUpdate() is clipped AdamW, whatever the loss scale", async () => {
  const gpu = await openTestGpu();
  for (const scale of [1, 1024]) {
    using bench = await Bench.make(gpu, { scale });
    const parameters = new Map([["w", noise(SIZE, 1)], ["b", noise(SIZE, 2)]]);
    const { weight_decay: weightDecay, ...rest } = HYPER;
    const reference = new AdamW(new Set(["w"]), { ...rest, weightDecay });
    const norms: number[] = [];
    for (let step = 0; step < 6; step++) {
      // Above and below the norm at which gradients are clipped.
      const size = step % 2 === 0 ? 1 : 0.01;
      const raw = new Map([
        ["w", noise(SIZE, 10 + step).map((g) => Math.fround(g * size))],
        ["b", noise(SIZE, 20 + step).map((g) => Math.fround(g * size))],
      ]);
      const { gradients, norm } = clipByGlobalNorm(raw, HYPER.clip_norm);
      norms.push(norm);
      reference.step(parameters, gradients, { learningRate: 0.01 });
      bench.step(raw.get("w")!.map((g) => g * scale), raw.get("b")!.map((g) => g * scale));
    }
    for (const name of ["w", "b"] as const) {
      const tolerance = 3e-6;
      assertNear(await bench.read(name), parameters.get(name)!, { tolerance, what: name });
      const m = await bench.read(`m.${name}`);
      const v = await bench.read(`v.${name}`);
      assertNear(m, reference.m.get(name)!, { tolerance, what: `m of ${name}` });
      assertNear(v, reference.v.get(name)!, { tolerance, what: `v of ${name}` });
    }
    assertNear(await bench.read("operand"), parameters.get("w")!, {
      tolerance: 1e-3,
      what: "the f16 copy",
    });
    const metrics = await bench.metrics(0, 6);
    assertNear(metrics.map(({ grad_norm }) => grad_norm), norms, {
      tolerance: 1e-6,
      what: "norms",
    });
    const { grad_norm: _, ...last } = metrics[5]!;
    assertEquals(last, {
      loss: 2,
      balance: 0.5,
      lr: Math.fround(0.01),
      loss_scale: scale,
      applied: 1,
      skipped: 0,
      skipped_in_row: 0,
    });
  }
});

const DYNAMIC: LossScaleOptions = {
  growth_interval: 3,
  growth_factor: 4,
  backoff_factor: 0.5,
  minimum: 2,
};

Deno.test("recordUpdate() skips what is not finite, and the loss scale halves and grows", async () => {
  using bench = await Bench.make(await openTestGpu(), { scale: 8, loss_scale: DYNAMIC });
  const good = noise(SIZE, 3);
  const state =
    async () => [await bench.read("w"), await bench.read("m.b"), await bench.read("v.w")];
  bench.step(good, good);
  const before = await state();
  bench.step(good.with(259, NaN), good);
  bench.step(good, good.with(0, -Infinity));
  bench.step(good, good, { loss: NaN });
  bench.step(good, good, { loss: Infinity });
  // Squares that overflow f32 are a norm that is not finite either.
  bench.step(good.map((g) => g * 1e25), good);
  assertEquals(await state(), before);
  for (let i = 0; i < 4; i++) bench.step(good, good);
  const rows = await bench.metrics(0, 10);
  const column = (name: (typeof METRICS)[number]) => rows.map((row) => row[name]);
  assertEquals(column("applied"), [1, 0, 0, 0, 0, 0, 1, 1, 1, 1]);
  assertEquals(column("skipped"), [0, 1, 2, 3, 4, 5, 5, 5, 5, 5]);
  assertEquals(column("skipped_in_row"), [0, 1, 2, 3, 4, 5, 0, 0, 0, 0]);
  // Halved down to the minimum, four times as much after three good updates.
  assertEquals(column("loss_scale"), [8, 8, 4, 2, 2, 2, 2, 2, 2, 8]);
  assert((await bench.read("w")).every(Number.isFinite));
});

Deno.test("recordUpdate() without a dynamic loss scale leaves it, and skips all the same", async () => {
  using bench = await Bench.make(await openTestGpu(), { scale: 1 });
  const good = noise(SIZE, 3);
  for (let i = 0; i < 3; i++) bench.step(good, good);
  bench.step(good.fill(NaN), good);
  const rows = await bench.metrics(0, 4);
  assertEquals(rows.map((row) => [row.loss_scale, row.applied]), [[1, 1], [1, 1], [1, 1], [1, 0]]);
});

Deno.test("recordUpdate() keeps the last updates' metrics, in a ring", async () => {
  using bench = await Bench.make(await openTestGpu());
  const zero = new Float32Array(SIZE);
  for (let i = 0; i < METRICS_RING + 3; i++) bench.step(zero, zero, { loss: i });
  const rows = await bench.metrics(METRICS_RING - 1, 4);
  assertEquals(rows.map(({ loss }) => loss), [0, 1, 2, 3].map((i) => METRICS_RING - 1 + i));
  assertEquals((await bench.metrics(3, 1))[0]!.loss, 3);
});

Deno.test("recordUpdate() names a tensor whose rows are not what the kernel reads", async () => {
  const gpu = await openTestGpu();
  using inputs = new Inputs(gpu);
  const plan = new Plan(gpu, "update");
  const tensors = { ...tensorsOf(inputs), loss: inputs.tensor("loss", [4]) };
  const { w: value, "gradient.w": gradient, "m.w": m, "v.w": v } = tensors;
  const chunks = [{ value, gradient, m, v, operand: undefined }];
  recordUpdate(plan, [{ decay: true, chunks }], tensors, HYPER);
  await assertRejects(
    () => buildPlans(gpu, [plan]),
    TypeError,
    "Tensor loss is f32 [4], expected f32 with rows of 2 (cross_entropy, balance)",
  );
});

Deno.test("sumInto() sums any count into a slot, alone or onto what is there", async () => {
  const gpu = await openTestGpu();
  for (const count of [1, 5, 300, 2049]) {
    using inputs = new Inputs(gpu);
    const values = noise(count, 7);
    const x = inputs.tensor("x", [count], { values });
    const total = inputs.tensor("total", [4], { values: [1, 2, 3, 4] });
    const out = await runOnce(gpu, (plan) => {
      sumInto(plan, "set", { x, total }, { slot: 1, scale: 0.5, add: false });
      sumInto(plan, "add", { x, total }, { slot: 2, scale: 2, add: true });
      return { total };
    });
    const sum = values.reduce((a, b) => a + b, 0);
    assertNear(out.total, [1, sum / 2, 3 + 2 * sum, 4], { tolerance: 1e-5, what: `${count}` });
  }
});
