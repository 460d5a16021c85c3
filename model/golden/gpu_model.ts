/**
 * Golden cases of whole models on a GPU: the trainer that training runs, and the experts that its passes keep.
 *
 * @module
 */

import { runPlan } from "../gpu/build.ts";
import type { Gpu } from "../gpu/device.ts";
import { Arena } from "../gpu/memory.ts";
import { Plan } from "../gpu/plan.ts";
import { Tensor } from "../gpu/tensor.ts";
import { packFields, upload } from "../gpu/transfer.ts";
import type { Execution } from "../ffn/ethos/ethos.ts";
import { LayerContext } from "../layer/context.ts";
import { idCodes } from "../ops/beam/codes.ts";
import { CONTROL } from "../ops/control.ts";
import { DROPOUT_KEY } from "../ops/dropout/dropout.ts";
import { trainSchema } from "../training/config.ts";
import { Trainer } from "../training/trainer.ts";
import type { Architecture } from "../trunk/architecture.ts";
import { headLogits } from "../trunk/head.ts";
import { recordForward } from "../trunk/network.ts";
import { parameterSpecs, statisticSpecs } from "../trunk/parameters.ts";
import {
  choiceNames,
  DROPOUT_SEED,
  goldenParameters,
  type GoldenResults,
  input,
  type ModelCase,
  passPrefix,
} from "./golden.ts";
import type { Precision } from "./gpu_workbench.ts";

/** Loss scale in mixed precision: no gradient of these files overflows. */
const LOSS_SCALE = 1024;

/** The same model with its experts run as told; one without experts, or without that execution, as it is. */
export function executing(architecture: Architecture, execution: Execution): Architecture {
  const { bench } = architecture.feedForward(architecture.config.num_layers - 1);
  return bench?.executions.includes(execution) ? architecture.withFfn({ execution }) : architecture;
}

/**
 * Results of a whole model; in mixed precision with the experts that every pass kept.
 */
export async function model(
  gpu: Gpu,
  golden: ModelCase,
  { execution, precision }: { execution: Execution; precision: Precision },
): Promise<GoldenResults> {
  const { batch, length, steps, learningRate, clip, weightDecay, decay } = golden;
  const { beta1, beta2, epsilon } = golden;
  const architecture = executing(golden.architecture, execution);
  const parameters = goldenParameters(golden);
  const train = trainSchema.parse({
    sequence_length: length,
    micro_batch: batch,
    steps,
    learning_rate: { initial: learningRate, peak: learningRate, warmup_steps: 0 },
    weight_decay: weightDecay,
    decay,
    beta1,
    beta2,
    epsilon,
    clip_norm: clip,
    precision,
    loss_scale: { initial: LOSS_SCALE },
  });
  const mixed = precision === "mixed";
  /** Factor of the gradients. */
  const scale = mixed ? LOSS_SCALE : 1;
  const trainer = await Trainer.create(gpu, { architecture, train, seed: DROPOUT_SEED });
  try {
    const specs = parameterSpecs(architecture);
    const state = [...specs, ...statisticSpecs(architecture)].map(({ name }) => name);
    for (const name of state) {
      trainer.writeState("value", name, Float32Array.from(parameters.get(name)!));
    }
    // As after a checkpoint: what products read follows the weights.
    await trainer.resume(0, await trainer.readControl());
    const tokens = Uint32Array.from(input(golden, "tokens").data);
    const targets = Uint32Array.from(input(golden, "targets").data);
    const results = new Map<string, ArrayLike<number>>();
    const { ffn } = architecture.config;
    if ("axes" in ffn) results.set("codes", idCodes(ffn.axis_size, ffn.axis_query));
    const keep = (pass: number, kept: ReadonlyMap<number, ArrayLike<number>>) => {
      for (const [layer, index] of kept) {
        results.set(choiceNames(passPrefix(pass, layer)).kept, index);
      }
    };
    for (let step = 0; step < steps; step++) {
      // The pass of the update once more, by itself: the same kernels give the same bits, and so the same experts.
      if (step === 0 || mixed) {
        const { logits, kept } = await forwardPass(trainer, { tokens, mode: "train" });
        if (step === 0) results.set("out.logits", logits);
        keep(step, kept);
      }
      trainer.update([{ tokens, targets }]);
      if (step > 0) continue;
      const gradients = specs.map(async ({ name }) =>
        results.set(`grad.${name}`, (await trainer.readGradient(name)).map((v) => v / scale))
      );
      await Promise.all(gradients);
    }
    const records = await trainer.records();
    results.set("out.losses", records.map(({ loss }) => loss));
    results.set("out.totals", records.map(({ loss, balance }) => loss + balance));
    results.set("out.grad_norms", records.map(({ grad_norm }) => grad_norm));
    if (mixed) {
      const { kept } = await forwardPass(trainer, { tokens, mode: "evaluate" });
      keep(steps, kept);
    }
    const losses = await trainer.losses({ tokens, targets });
    results.set("out.eval_loss_after", [losses.reduce((sum, x) => sum + x, 0) / losses.length]);
    const after = state.map(async (name) =>
      results.set(`after.${name}`, await trainer.readState("value", name))
    );
    await Promise.all(after);
    return results;
  } finally {
    trainer.destroy();
  }
}

/**
 * Logits of a pass, `[T, V]`, which training itself never holds at once, and the experts that it kept by layer. The running statistics stay as they are.
 */
async function forwardPass(
  trainer: Trainer,
  { tokens, mode }: {
    readonly tokens: Uint32Array<ArrayBuffer>;
    readonly mode: "train" | "evaluate";
  },
): Promise<{ logits: Float32Array; kept: Map<number, ArrayLike<number>> }> {
  const { gpu, architecture, train, weights } = trainer;
  const { vocab_size } = architecture.config;
  const plan = new Plan(gpu, "logits");
  const ids = new Tensor("tokens", [tokens.length], { dtype: "u32", owner: "golden" });
  const control = new Tensor("control", [CONTROL.length], { owner: "golden" });
  const key = new Tensor("dropout_key", [DROPOUT_KEY], { dtype: "u32", owner: "golden" });
  const arenas = [ids, control, key].map((tensor) => new Arena(gpu, tensor.name, [tensor]));
  try {
    upload(gpu, ids, tokens);
    upload(gpu, control, packFields(CONTROL, await trainer.readControl()));
    const context = new LayerContext(plan, weights, {
      batch: train.micro_batch,
      length: train.sequence_length,
      mode,
      dropout: { seed: trainer.seed, control, key },
    });
    const { x, uses } = recordForward(context, architecture, { tokens: ids });
    const logits = headLogits(context, { architecture, x });
    const statistics = await Promise.all(
      statisticSpecs(architecture).map(async ({ name }) =>
        [name, await trainer.readState("value", name)] as const
      ),
    );
    const layers = Array.from(uses, ([layer, { index }]) => [`layer ${layer}`, index] as const);
    const outputs: Record<string, Tensor> = { logits, ...Object.fromEntries(layers) };
    const read = await runPlan(plan, outputs);
    for (const [name, values] of statistics) trainer.writeState("value", name, values);
    const padded = read["logits"]!;
    return {
      logits: Float32Array.from(
        { length: tokens.length * vocab_size },
        (_, i) => padded[Math.floor(i / vocab_size) * logits.width + i % vocab_size]!,
      ),
      kept: new Map(Array.from(uses.keys(), (layer) => [layer, read[`layer ${layer}`]!])),
    };
  } finally {
    for (const arena of arenas) arena.destroy();
  }
}
