/**
 * One update: global norm, the decision what to do with it, AdamW.
 *
 * @module
 */

import adamwSource from "../../../shaders/optimizer/adamw.wgsl" with { type: "text" };
import controlSource from "../../../shaders/optimizer/control.wgsl" with { type: "text" };
import rowsSource from "../../../shaders/gemm/rows.wgsl" with { type: "text" };
import squareSumSource from "../../../shaders/optimizer/square_sum.wgsl" with { type: "text" };
import sumSource from "../../../shaders/optimizer/sum.wgsl" with { type: "text" };
import {
  type Constants,
  f32,
  grid,
  read,
  readFields,
  readScalar,
  update,
  updateFields,
  updateScalar,
  write,
  writeScalar,
} from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { softwareLanes } from "../subgroup.ts";
import { CONTROL, LOSS, METRICS, METRICS_RING, SCHEDULE } from "../control.ts";

/** Chunks of parameters that the optimiser treats alike. */
export interface OptimizerGroup {
  /** Whether weight decay applies. */
  readonly decay: boolean;
  /** Flat tensors of equal length: `operand` is the f16 copy, absent in f32 precision. */
  readonly chunks: readonly {
    /** Weights. */
    readonly value: Tensor;
    /** Their gradient, times the loss scale. */
    readonly gradient: Tensor;
    /** First moments. */
    readonly m: Tensor;
    /** Second moments. */
    readonly v: Tensor;
    /** The f16 copy that matrix products read. */
    readonly operand: Tensor | undefined;
  }[];
}

/** Hyper-parameters of AdamW and of the guard around it. */
export interface OptimizerOptions {
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly weight_decay: number;
  /** Largest global norm; larger gradients are scaled down to it. */
  readonly clip_norm: number;
  /** How the loss scale moves; absent where it is fixed, as in f32. */
  readonly loss_scale?: LossScaleOptions;
}

/** Dynamic loss scaling. */
export interface LossScaleOptions {
  /** Applied updates after which the scale grows. */
  readonly growth_interval: number;
  readonly growth_factor: number;
  /** Factor of the scale after a non-finite step. */
  readonly backoff_factor: number;
  readonly minimum: number;
}

/** Largest loss scale: beyond it an f16 gradient of ordinary size overflows. */
const MAX_LOSS_SCALE = 2 ** 24;

/** Invocations of a workgroup that sums, on real GPUs. */
const SUM_LANES = 64;

/** A workgroup that sums: on a software adapter one subgroup, for barriers take longer there than all else. */
function summing({ gpu }: Plan): Constants {
  const lanes = softwareLanes(gpu.capabilities);
  return {
    LANES: lanes ?? SUM_LANES,
    BY_ROW: false,
    ...(lanes !== undefined && { SUBGROUPS: true }),
  };
}

/** Workgroups that sum the squares of one chunk. */
const NORM_GROUPS = 256;

/** Tensors of the update that outlast a step. */
interface UpdateTensors {
  /** {@linkcode CONTROL}: loss scale, counters, this step's decisions. */
  readonly control: Tensor;
  /** {@linkcode SCHEDULE}: the learning rate. */
  readonly schedule: Tensor;
  /** {@linkcode LOSS} of the step. */
  readonly loss: Tensor;
  /** {@linkcode METRICS} of {@linkcode METRICS_RING} steps: what the host reads a few steps late. */
  readonly metrics: Tensor;
}

/** Records `total[slot] = scale · Σ x`, over `divisor[0]` where there is one, or adds it. */
export function sumInto(
  plan: Plan,
  label: string,
  tensors: { x: Tensor; total: Tensor; divisor?: Tensor | undefined },
  options: { slot: number; scale: number; add: boolean; count?: number },
): void {
  const { x, total, divisor } = tensors;
  plan.dispatch({
    label,
    name: "sum",
    source: rowsSource + sumSource,
    constants: { ...summing(plan), ADD: options.add, DIVIDED: divisor !== undefined },
    params: { count: options.count ?? x.size, slot: options.slot, scale: f32(options.scale) },
    bindings: {
      x: readScalar(x),
      total: updateScalar(total),
      ...(divisor ? { divisor: readScalar(divisor) } : {}),
    },
    workgroups: [1, 1, 1],
  });
}

/** Records norm, decision and AdamW for all parameters. */
export function recordUpdate(
  plan: Plan,
  groups: readonly OptimizerGroup[],
  tensors: UpdateTensors,
  options: OptimizerOptions,
): void {
  const chunks = groups.flatMap((group) =>
    group.chunks.map((chunk) => ({ ...chunk, decay: group.decay ? options.weight_decay : 0 }))
  );
  const shares = chunks.map(({ gradient }) => {
    const groups = Math.min(NORM_GROUPS, Math.ceil(gradient.size / 4096));
    return { groups, share: Math.ceil(gradient.size / 4 / groups) };
  });
  const count = shares.reduce((n, { groups }) => n + groups, 0);
  const partials = plan.tensor("update.partials", [count]);
  let first = 0;
  chunks.forEach(({ gradient }, i) => {
    const { groups, share } = shares[i]!;
    plan.dispatch({
      label: "update.norm",
      name: "square_sum",
      source: rowsSource + squareSumSource,
      constants: summing(plan),
      params: { count: gradient.size / 4, share, groups, first },
      bindings: { x: read(gradient), partials: writeScalar(partials) },
      workgroups: grid(groups),
      flops: 2 * gradient.size,
    });
    first += groups;
  });
  plan.dispatch({
    label: "update.control",
    name: "control",
    source: controlSource,
    params: {
      count,
      ring: METRICS_RING,
      growth: options.loss_scale?.growth_interval ?? 0,
      clip: f32(options.clip_norm),
      // A beta of 0 has no finite logarithm, and e⁻¹⁰⁰ is 0 in f32 as well.
      ln_beta1: f32(Math.max(-100, Math.log(options.beta1))),
      ln_beta2: f32(Math.max(-100, Math.log(options.beta2))),
      factor: f32(options.loss_scale?.growth_factor ?? 1),
      backoff: f32(options.loss_scale?.backoff_factor ?? 1),
      minimum: f32(options.loss_scale?.minimum ?? 1),
      maximum: f32(MAX_LOSS_SCALE),
    },
    bindings: {
      partials: readScalar(partials),
      loss: readFields(tensors.loss, LOSS),
      schedule: readFields(tensors.schedule, SCHEDULE),
      control: updateFields(tensors.control, CONTROL),
      metrics: updateFields(tensors.metrics, METRICS),
    },
    workgroups: [1, 1, 1],
  });
  for (const { value, gradient, m, v, operand, decay } of chunks) {
    plan.dispatch({
      label: "update.adamw",
      name: "adamw",
      source: adamwSource,
      constants: { HALF: operand !== undefined },
      params: {
        count: value.size / 4,
        beta1: f32(options.beta1),
        beta2: f32(options.beta2),
        epsilon: f32(options.epsilon),
        decay: f32(decay),
      },
      bindings: {
        value: update(value),
        gradient: read(gradient),
        m: update(m),
        v: update(v),
        ...(operand ? { operand: write(operand) } : {}),
        control: readFields(tensors.control, CONTROL),
      },
      workgroups: grid(Math.ceil(value.size / 256)),
      flops: 14 * value.size,
    });
  }
}
