import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import type { Gpu } from "../../gpu/device.ts";
import { openTestGpu } from "../../gpu/testing.ts";
import { parameterSpecs, statisticSpecs } from "../../trunk/parameters.ts";
import type { TokenBatch } from "../sampler.ts";
import type { StepRecord, Trainer } from "../trainer.ts";
import {
  assertSameBits,
  assertTrainsLikeReference,
  batchesOf,
  makeTrainer,
  MHA,
  readAll,
  readGradients,
  type TinyOptions,
  tinyTrain,
  TOPK_MOE,
  withTrainer,
} from "../trainer_testing.ts";
import { agree, shareState } from "./agreement.ts";
import { connectedRanks } from "./groups_testing.ts";

/** Dropout everywhere, experts with a load-balance term, and routers with batch norm, in f16. */
const EVERYTHING: TinyOptions = {
  model: {
    attention: { ...MHA.attention, dropout: 0.2 },
    ffn: { load_balance_coef: 0.1 },
    trunk: { dropout: 0.1 },
  },
  train: {
    steps: 3,
    gradient_accumulation: 4,
    gradient_groups: 4,
    precision: "mixed",
    clip_norm: 0.5,
  },
  // Some tensors in several parts, some parts of several tensors.
  partElements: 1500,
};

/** Everything that a training leaves: state, counters, records. */
interface Left {
  readonly state: Map<string, Float32Array>;
  readonly control: unknown;
  readonly records: readonly StepRecord[];
}

const own = ({ microBatches: { from, count } }: Trainer, batches: readonly TokenBatch[]) =>
  batches.slice(from, from + count);

/** Trains with so many ranks, each a trainer of this process, and returns what each of them has then. */
async function trainedBy(
  gpu: Gpu,
  size: number,
  options: TinyOptions = EVERYTHING,
): Promise<Left[]> {
  return await Promise.all(
    connectedRanks(size).map((ranks) =>
      // Only the first rank has the seed's weights before they are shared.
      withTrainer(gpu, { ...options, ranks }, async (trainer) => {
        await shareState(trainer);
        for (let step = 0; step < trainer.steps; step++) {
          await trainer.update(own(trainer, batchesOf(trainer, step)));
        }
        return {
          records: await trainer.records(),
          state: await readAll(trainer),
          control: await trainer.readControl(),
        };
      })
    ),
  );
}

function assertSameTraining(actual: Left, expected: Left): void {
  assertSameBits(actual.state, expected.state);
  assertEquals(actual.control, expected.control);
  assertEquals(actual.records, expected.records);
}

Deno.test("One, two and four ranks with the same groups end in the same bits", async () => {
  const gpu = await openTestGpu();
  const [alone] = await trainedBy(gpu, 1);
  assert(alone!.records.every(({ applied }) => applied));
  for (const size of [2, 4]) {
    for (const rank of await trainedBy(gpu, size)) assertSameTraining(rank, alone!);
  }
  // Neither the parts nor the memory matter.
  const whole = { ...EVERYTHING, partElements: 2 ** 24, isolate: true };
  assertSameTraining((await trainedBy(gpu, 2, whole))[1]!, alone!);
  // The grouping does.
  const train = { ...EVERYTHING.train, gradient_groups: 2 };
  const [other] = await trainedBy(gpu, 1, { ...EVERYTHING, train });
  assertNotEquals(other!.state.get("value.embed.weight"), alone!.state.get("value.embed.weight"));
});

Deno.test("A training by groups goes on with another number of ranks", async () => {
  const gpu = await openTestGpu();
  const [alone] = await trainedBy(gpu, 1);
  const half = await withTrainer(gpu, EVERYTHING, async (trainer) => {
    await trainer.update(batchesOf(trainer, 0));
    return { state: await readAll(trainer), control: await trainer.readControl() };
  });
  const ended = await Promise.all(
    connectedRanks(2).map((ranks) =>
      // Another seed's weights: rank 0 alone reads the checkpoint.
      withTrainer(gpu, { ...EVERYTHING, ranks }, async (trainer) => {
        if (ranks.rank === 0) {
          for (const [key, values] of half.state) {
            const [kind, ...name] = key.split(".");
            trainer.writeState(kind as "value" | "m" | "v", name.join("."), values);
          }
          await trainer.resume(1, half.control);
        }
        await shareState(trainer);
        for (let step = 1; step < trainer.steps; step++) {
          await trainer.update(own(trainer, batchesOf(trainer, step)));
        }
        return await readAll(trainer);
      })
    ),
  );
  for (const state of ended) assertSameBits(state, alone!.state);
});

Deno.test("A gradient is the ordered sum of its groups', and statistics are the groups' mean", async () => {
  const gpu = await openTestGpu();
  const model = { ffn: { load_balance_coef: 0.1 } };
  // Sums over two micro-batches by trainers that know no groups, from the same weights.
  const groups = await Promise.all(
    [0, 1].map((group) =>
      withTrainer(gpu, { model, train: { gradient_accumulation: 2 } }, async (trainer) => {
        const batches = Array.from({ length: 4 }, (_, i) => batchesOf(trainer, i)[0]!);
        const own = batches.slice(2 * group, 2 * group + 2);
        trainer.update(own);
        const [record] = await trainer.records();
        return {
          own,
          record: record!,
          gradients: await readGradients(trainer),
          state: await readAll(trainer),
        };
      })
    ),
  );
  const [a, b] = groups;
  const train = { gradient_accumulation: 4, gradient_groups: 2 };
  await withTrainer(gpu, { model, train }, async (trainer) => {
    await trainer.update([...a!.own, ...b!.own]);
    const gradients = await readGradients(trainer);
    const state = await readAll(trainer);
    for (const { name } of parameterSpecs(trainer.architecture)) {
      // Halves of a share of an update are exact.
      const expected = a!.gradients.get(name)!.map((v, i) => (v + b!.gradients.get(name)![i]!) / 2);
      assertEquals(gradients.get(name), expected, name);
    }
    const statistics = statisticSpecs(trainer.architecture);
    assert(statistics.length > 0);
    for (const { name } of statistics) {
      const key = `value.${name}`;
      const expected = a!.state.get(key)!.map((v, i) =>
        Math.fround(v + b!.state.get(key)![i]!) / 2
      );
      assertEquals(state.get(key), expected, name);
    }
    const [record] = await trainer.records();
    assertEquals(record!.loss, Math.fround(a!.record.loss + b!.record.loss) / 2);
    assertEquals(record!.balance, Math.fround(a!.record.balance + b!.record.balance) / 2);
  });
});

Deno.test("A training by groups agrees with the float64 model, dropout and padding too", async () => {
  const gpu = await openTestGpu();
  const model = {
    attention: { ...MHA.attention, dropout: 0.2 },
    ffn: { ...TOPK_MOE, expert_dropout: 0.25 },
    trunk: { dropout: 0.1 },
  };
  const train = { gradient_accumulation: 4, gradient_groups: 2, documents: "single" };
  await withTrainer(gpu, { model, train }, assertTrainsLikeReference);
});

Deno.test("A group that is not finite skips the update of all ranks", async () => {
  const gpu = await openTestGpu();
  const model = { ffn: TOPK_MOE };
  const train = {
    gradient_accumulation: 2,
    gradient_groups: 2,
    precision: "mixed",
    loss_scale: { initial: 2 ** 38 },
  };
  const [alone] = await trainedBy(gpu, 1, { model, train });
  assert(alone!.records.some(({ applied }) => !applied));
  for (const rank of await trainedBy(gpu, 2, { model, train })) assertSameTraining(rank, alone!);
});

Deno.test("Groups that can't be shared are refused, and so are unlike ranks", async () => {
  const gpu = await openTestGpu();
  const [ranks] = connectedRanks(3);
  const train = { gradient_accumulation: 4, gradient_groups: 4 };
  const message = "train.gradient_groups is 4; expected a multiple of the 3 ranks";
  await assertRejects(() => makeTrainer(gpu, { train, ranks: ranks! }), RangeError, message);
  await assertRejects(
    () => makeTrainer(gpu, { ranks: ranks! }),
    RangeError,
    "train.gradient_groups is 1; expected a multiple of the 3 ranks",
  );
  // One group is none.
  assertEquals(tinyTrain({ gradient_groups: 1 }), tinyTrain());
  const pair = connectedRanks(2);
  const sharing = pair.map((ranks) =>
    withTrainer(gpu, { train, ranks, partElements: 2000 + ranks.rank }, shareState)
  );
  const [, second] = await Promise.allSettled(sharing);
  assert(second!.status === "rejected");
  assert(/rank 1 computes on .* rank 0 on /.test(String(second!.reason)));
});

Deno.test("Most parts are final before the backward pass is over, statistics before it begins", async () => {
  const gpu = await openTestGpu();
  const train = { gradient_accumulation: 2, gradient_groups: 2 };
  await withTrainer(gpu, { train, partElements: 400 }, ({ parts }) => {
    const steps = parts.at(-1)!.ready;
    const early = parts.filter(({ ready }) => ready < steps);
    assert(new Set(early.map(({ ready }) => ready)).size > 8);
    assertEquals(parts[0]!.mean, true);
  });
});

Deno.test("Ranks agree with the first", async () => {
  const answers = connectedRanks(3).map((ranks) => agree(ranks, ranks.rank === 0));
  assertEquals(await Promise.all(answers), [true, true, true]);
  const others = connectedRanks(3).map((ranks) => agree(ranks, ranks.rank > 0));
  assertEquals(await Promise.all(others), [false, false, false]);
});
