/**
 * Golden cases on a GPU: the operations, layers and the trainer that training runs, judged like the reference.
 *
 * @module
 */

import {
  type BeamRouterCase,
  choiceNames,
  type GoldenImplementation,
  type GoldenResults,
  input,
  keptCounts,
  type LayerCase,
  type MixtureCase,
  type OptimizerCase,
  type RouterCase,
  tolerances,
} from "./golden.ts";
import { buildPlans } from "../gpu/build.ts";
import type { Gpu } from "../gpu/device.ts";
import { Plan } from "../gpu/plan.ts";
import type { Tensor } from "../gpu/tensor.ts";
import {
  download,
  downloadParts,
  packFields,
  unpackFields,
  upload,
  uploadParts,
} from "../gpu/transfer.ts";
import type { FfnSection } from "../section.ts";
import type { KeptExperts } from "../layer/kind.ts";
import { LayerContext } from "../layer/context.ts";
import { ethosBackward, ethosForward, type Execution } from "../ffn/ethos/ethos.ts";
import { beamBackward, beamForward } from "../ffn/beam/router.ts";
import { idCodes } from "../ops/beam/codes.ts";
import { switchForward } from "../ffn/switch/switch.ts";
import { topkMoeForward } from "../ffn/topk_moe/topk_moe.ts";
import { peerBackward, peerForward } from "../ffn/peer/peer.ts";
import { routerBackward, routerForward } from "../ffn/product_key/router.ts";
import { CONTROL, LOSS, METRICS, METRICS_RING, SCHEDULE } from "../ops/control.ts";
import { recordUpdate } from "../ops/optimizer/optimizer.ts";
import type { WeightSpec } from "../layer/weights.ts";
import { gptAttention, mla } from "./gpu_attention.ts";
import { executing, model } from "./gpu_model.ts";
import { expanded } from "./published/expanded_gpu.ts";
import { pretrained } from "./published/pretrained_gpu.ts";
import { sparseOnGpu } from "./sparse_gpu.ts";
import { Bench, bench, named, OPERAND, type Precision } from "./gpu_workbench.ts";

/** Results that never leave a kernel: scores of sub-keys and sums of kept pairs. */
const INSIDE = /^(out|eval)\.(s1|s2|total)$/;

/**
 * The GPU, for comparing with golden files.
 *
 * Experts run as `execution` says. The implementation `materialized`, plainly named `gpu`, alone computes the cases that do not
 * depend on it.
 *
 * @example
 * ```ts ignore
 * import { openGpu } from "../gpu/open.ts";
 * import { compareGolden } from "./compare.ts";
 * const gpu = await openGpu();
 * const rows = await compareGolden(gpuImplementation(gpu, "fused"), golden);
 * gpu.close();
 * ```
 */
export function gpuImplementation(
  gpu: Gpu,
  execution: Execution = "materialized",
  precision: Precision = "f32",
): GoldenImplementation {
  const plain = execution === "materialized";
  const mixed = precision === "mixed";
  // The optimiser computes in f32 whatever the operands are.
  const kinds = plain
    ? mixed
      ? [
        "mla",
        "gpt_attention",
        "router",
        "beam_router",
        "layer",
        "mixture",
        "model",
        "pretrained",
      ] as const
      : undefined
    : ["layer", "model"] as const;
  return {
    name: ["gpu", ...plain ? [] : [execution], ...mixed ? ["mixed"] : []].join(", "),
    tolerance: mixed ? tolerances.mixed : tolerances.gpu,
    ...(kinds && { kinds: new Set(kinds) }),
    mla: (golden) => mla(gpu, golden, precision),
    gptAttention: (golden) => gptAttention(gpu, golden, precision),
    router: (golden) => router(gpu, golden, precision),
    beamRouter: (golden) => beamRouter(gpu, golden, precision),
    layer: (golden) => layer(gpu, golden, { execution, precision }),
    mixture: (golden) => mixture(gpu, golden, precision),
    model: (golden) => model(gpu, golden, { execution, precision }),
    optimizer: (golden) => optimizer(gpu, golden),
    pretrained: (golden) => pretrained(gpu, golden, precision),
    sparse: (golden) => sparseOnGpu(gpu, golden),
    expanded: (golden) => expanded(gpu, golden),
    omits(golden, tensor) {
      if (golden.kind === "router" && INSIDE.test(tensor)) return "never leaves a kernel";
      if (golden.kind === "mixture" && tensor.endsWith("out.probability")) {
        return "only the kept expert's leaves a kernel";
      }
      if (golden.kind === "layer" && tensor === "out.y_naive" && execution !== "naive") {
        return "in the table of the naive execution";
      }
    },
  };
}

/** The GPU once for each execution of experts in each precision. */
export function gpuImplementations(gpu: Gpu): GoldenImplementation[] {
  return (["f32", "mixed"] as const).flatMap((precision) =>
    (["materialized", "fused", "naive"] as const).map((execution) =>
      gpuImplementation(gpu, execution, precision)
    )
  );
}

async function router(
  gpu: Gpu,
  golden: RouterCase,
  precision: Precision,
): Promise<GoldenResults> {
  const { tokens } = golden;
  const at = "layers.0.ffn.router";
  const shape = [tokens, golden.architecture.config.d_model];
  const kept = [tokens, golden.ethos.routing_heads * golden.ethos.top_k];
  /** One training pass: of the scores' gradient, or of the load-balance term alone. */
  const train = async (options: { scores: boolean }) => {
    using b = bench(gpu, golden, { prefix: `${at}.`, precision });
    const x = b.tensor("x", shape, input(golden, "x").data, OPERAND[precision]);
    const dscore = b.tensor("g", kept, options.scores ? input(golden, "g").data : undefined);
    const router = { ...golden.ethos, load_balance_coef: options.scores ? 0 : 1 };
    const results = await b.run({ batch: 1, length: tokens, mode: "train" }, (context) => {
      const saved = routerForward(context, at, { x, router });
      const dx = context.activation("dx", ...shape);
      context.plan.clear(dx);
      routerBackward(context, at, { router, saved, dscore, dx });
      const { index, score, balance } = saved.routed;
      return {
        query: saved.query,
        index,
        kept: index,
        score,
        ...(balance && { balance: balance.value }),
        "grad.x": dx,
        "bn.mean": context.vector(`${at}.bn.mean`),
        "bn.var": context.vector(`${at}.bn.var`),
      };
    });
    return new Map([...results, ...named("grad.", await b.gradients(`${at}.`))]);
  };
  const first = await train({ scores: true });
  const balanced = await train({ scores: false });
  using b = bench(gpu, golden, { prefix: `${at}.`, precision });
  for (const name of ["bn.mean", "bn.var"]) {
    uploadParts(gpu, b.weights.value(`${at}.${name}`).parts, first.get(name)!);
  }
  const x = b.tensor("x", shape, input(golden, "x").data, OPERAND[precision]);
  const evaluated = await b.run(
    { batch: 1, length: tokens, mode: "evaluate" },
    (context) => {
      const { query, routed } = routerForward(context, at, { x, router: golden.ethos });
      return { query, index: routed.index, kept: routed.index, score: routed.score };
    },
  );
  const of = (all: ReadonlyMap<string, ArrayLike<number>>, gradients: boolean) =>
    [...all].filter(([name]) => name.startsWith("grad.") === gradients);
  return new Map([
    ...named("out.", of(first, false)),
    ...of(first, true),
    ["balance.value", balanced.get("balance")!],
    ...named("balance.", of(balanced, true)),
    ...named("eval.", evaluated),
  ]);
}

/** Both passes of a layer behind a product-key router. */
function layerPasses(
  context: LayerContext,
  at: string,
  options: { ffn: FfnSection; x: Tensor; residual: Tensor; dy: Tensor },
): { y: Tensor; kept: KeptExperts; dx: Tensor } {
  const { ffn, dy, ...inputs } = options;
  if (ffn.kind === "peer") {
    const { y, saved } = peerForward(context, at, { ...inputs, peer: ffn });
    return { y, kept: saved.kept, dx: peerBackward(context, at, { peer: ffn, dy, saved }) };
  }
  if (ffn.kind !== "ethos") throw new TypeError(`A layer of kind ${ffn.kind} has no such router`);
  const { y, saved } = ethosForward(context, at, { ...inputs, ethos: ffn });
  return { y, kept: saved.kept, dx: ethosBackward(context, at, { ethos: ffn, dy, saved }) };
}

async function beamRouter(
  gpu: Gpu,
  golden: BeamRouterCase,
  precision: Precision,
): Promise<GoldenResults> {
  const { beam, tokens } = golden;
  const at = "layers.0.ffn.router";
  using b = bench(gpu, golden, { prefix: `${at}.`, precision });
  const shape = [tokens, golden.architecture.config.d_model];
  const x = b.tensor("x", shape, input(golden, "x").data, OPERAND[precision]);
  const kept = [tokens, beam.routing_heads * beam.top_k];
  const dscore = b.tensor("g", kept, input(golden, "g").data);
  const results = await b.run({ batch: 1, length: tokens, mode: "train" }, (context) => {
    const saved = beamForward(context, at, { x, router: beam });
    const dx = context.activation("dx", ...shape);
    context.plan.clear(dx);
    beamBackward(context, at, { router: beam, saved, dscore, dx });
    const { query, candidates: [candidates], score, coords } = saved.routed;
    return {
      "out.query": query,
      "out.axis_value": candidates!.value,
      "out.axis_id": candidates!.id,
      "out.scores": score,
      "out.coords": coords,
      [choiceNames("out.").kept]: coords,
      "grad.x": dx,
    };
  });
  return new Map([
    ...results,
    ["out.coords", Array.from(results.get("out.coords")!, (at) => at % beam.axis_size)],
    ["out.codes", idCodes(beam.axis_size, beam.axis_query)],
    ["out.codes_512x32", idCodes(512, 32)],
    ...named("grad.", await b.gradients(`${at}.`)),
  ]);
}

async function layer(
  gpu: Gpu,
  golden: LayerCase,
  { execution, precision }: { execution: Execution; precision: Precision },
): Promise<GoldenResults> {
  const { tokens } = golden;
  const { ffn } = executing(golden.architecture, execution).config;
  const at = "layers.0.ffn";
  using b = bench(gpu, golden, { prefix: `${at}.`, precision });
  const shape = [tokens, golden.architecture.config.d_model];
  const x = b.tensor("x", shape, input(golden, "x").data, OPERAND[precision]);
  const g = b.tensor("g", shape, input(golden, "g").data);
  const residual = b.tensor("residual", shape);
  const results = await b.run({ batch: 1, length: tokens, mode: "train" }, (context) => {
    const { y, kept, dx } = layerPasses(context, at, { ffn, x, residual, dy: g });
    return {
      "out.y": y,
      ...(ffn.kind === "ethos" && execution === "naive" && { "out.y_naive": y }),
      "out.index": kept.index,
      [choiceNames("out.").kept]: kept.index,
      "out.score": kept.score,
      "grad.x": dx,
      "out.router.bn.mean": context.vector(`${at}.router.bn.mean`),
      "out.router.bn.var": context.vector(`${at}.router.bn.var`),
    };
  });
  return new Map([...results, ...named("grad.", await b.gradients(`${at}.`))]);
}

async function mixture(
  gpu: Gpu,
  golden: MixtureCase,
  precision: Precision,
): Promise<GoldenResults> {
  const { tokens, passes } = golden;
  const at = "layers.0.ffn";
  const shape = [tokens, golden.architecture.config.d_model];
  const results = new Map<string, ArrayLike<number>>();
  for (const { prefix, section } of passes) {
    using b = bench(gpu, golden, { prefix: `${at}.`, precision });
    const x = b.tensor("x", shape, input(golden, "x").data, OPERAND[precision]);
    const g = b.tensor("g", shape, input(golden, "g").data);
    const residual = b.tensor("residual", shape);
    const out = `${prefix}out.`;
    const { kept } = choiceNames(out);
    const found = await b.run({ batch: 1, length: tokens, mode: "train" }, (context) => {
      const pass = section.kind === "switch"
        ? switchForward(context, at, { x, residual, section })
        : topkMoeForward(context, at, { x, residual, section });
      const { index, keys, weight } = pass.gated;
      return {
        [`${out}index`]: index,
        [kept]: keys,
        [`${out}y`]: pass.y,
        [`${out}weight`]: weight,
        ...(pass.auxiliary && { [`${out}aux`]: pass.auxiliary }),
        [`${prefix}grad.x`]: pass.backward(g),
      };
    });
    const counts = keptCounts(found.get(kept)!, { tokens, experts: section.num_experts });
    const gradients = named(`${prefix}grad.`, await b.gradients(`${at}.`));
    const all = [...found, ...gradients, [`${out}count`, counts] as const];
    for (const [name, value] of all) results.set(name, value);
  }
  return results;
}

async function optimizer(gpu: Gpu, golden: OptimizerCase): Promise<GoldenResults> {
  const { names, steps, decaying } = golden;
  const specs = names.map((name): WeightSpec => ({
    name,
    shape: input(golden, `param.${name}`).shape,
    decay: decaying.has(name),
    trained: true,
  }));
  using b = new Bench(gpu, specs, {
    values: (name) => input(golden, `param.${name}`).data,
    precision: "f32",
  });
  const state = {
    control: b.tensor("control", [CONTROL.length], packFields(CONTROL, { loss_scale: 1 })),
    schedule: b.tensor("schedule", [SCHEDULE.length]),
    loss: b.tensor("loss", [LOSS.length]),
    metrics: b.tensor("metrics", [METRICS_RING, METRICS.length]),
  };
  const plan = new Plan(gpu, "update");
  recordUpdate(plan, b.weights.groups, state, {
    beta1: golden.beta1,
    beta2: golden.beta2,
    epsilon: golden.epsilon,
    weight_decay: golden.weightDecay,
    clip_norm: golden.clip,
  });
  const built = await buildPlans(gpu, [plan]);
  try {
    const rates = input(golden, "lr").data;
    const after = new Map(names.map((name) => [name, [] as number[]]));
    for (let step = 0; step < steps; step++) {
      upload(gpu, state.schedule, packFields(SCHEDULE, { lr: rates[step]! }));
      for (const name of names) {
        const all = input(golden, `grads.${name}`).data;
        const size = all.length / steps;
        uploadParts(
          gpu,
          b.weights.gradient(name).parts,
          all.subarray(step * size, (step + 1) * size),
        );
      }
      built.plans[0]!.run();
      for (const name of names) {
        after.get(name)!.push(...await downloadParts(gpu, b.weights.value(name).parts));
      }
    }
    const metrics = await download(gpu, state.metrics);
    const norms = Array.from(
      { length: steps },
      (_, row) => unpackFields(METRICS, metrics, { row }).grad_norm,
    );
    const results = new Map<string, ArrayLike<number>>([["out.grad_norms", norms]]);
    for (const name of names) {
      const { m, v } = b.weights.moments(name);
      results.set(`after.${name}`, after.get(name)!);
      results.set(`m.${name}`, await downloadParts(gpu, m.parts));
      results.set(`v.${name}`, await downloadParts(gpu, v.parts));
    }
    gpu.check();
    return results;
  } finally {
    built.destroy();
  }
}
