/**
 * Makes recorded plans ready to run: assigns memory to the transient tensors from their first and last use, compiles each
 * distinct kernel once, and makes every bind group, so that running a plan only encodes and submits.
 *
 * @module
 */

import { placeCopies } from "./copies.ts";
import type { Gpu } from "./device.ts";
import { encodeParams, PipelineCache } from "./kernel.ts";
import { assignMemory, type Pool } from "./memory.ts";
import type { Dispatch, Plan, Step } from "./plan.ts";
import { ALIGNMENT, roundUp, type Tensor } from "./tensor.ts";
import type { Texels } from "./texels.ts";
import { download, upload } from "./transfer.ts";

/** A step that is ready to encode, with the copies that are made before it. */
type Encodable =
  & { readonly copies: readonly Texels[] }
  & (
    | {
      readonly kind: "dispatch";
      readonly pipeline: GPUComputePipeline;
      readonly group: GPUBindGroup;
      readonly call: Dispatch;
    }
    | Exclude<Step, { kind: "dispatch" }>
  );

/** A plan with memory, pipelines and bind groups. */
export class BuiltPlan {
  /** The recorded plan. */
  readonly plan: Plan;
  readonly #steps: readonly Encodable[];
  readonly #uniforms: GPUBuffer | undefined;

  /** Made by {@linkcode buildPlans}.
   *
   * @ignore
   */
  constructor(plan: Plan, steps: readonly Encodable[], uniforms: GPUBuffer | undefined) {
    this.plan = plan;
    this.#steps = steps;
    this.#uniforms = uniforms;
  }

  /** Encodes the plan. With `timestamps`, each dispatch gets a pass of its own that writes two of them. */
  encode(
    encoder: GPUCommandEncoder,
    timestamps?: (dispatch: number) => GPUComputePassTimestampWrites | undefined,
  ): void {
    this.#encode(encoder, this.#steps, timestamps);
  }

  /** Encodes the steps from `first` to before `end`. Ranges that follow each other are the plan. */
  encodeSteps(
    encoder: GPUCommandEncoder,
    { first, end }: { readonly first: number; readonly end: number },
  ): void {
    this.#encode(encoder, this.#steps.slice(first, end));
  }

  #encode(
    encoder: GPUCommandEncoder,
    steps: readonly Encodable[],
    timestamps?: (dispatch: number) => GPUComputePassTimestampWrites | undefined,
  ): void {
    let pass: GPUComputePassEncoder | undefined;
    let dispatched = 0;
    for (const step of steps) {
      if (step.copies.length > 0) {
        pass?.end();
        pass = undefined;
        for (const copy of step.copies) copy.encode(encoder);
      }
      if (step.kind === "dispatch") {
        if (timestamps) {
          const writes = timestamps(dispatched++);
          pass = encoder.beginComputePass(writes ? { timestampWrites: writes } : {});
        } else pass ??= encoder.beginComputePass({ label: this.plan.label });
        pass.setPipeline(step.pipeline);
        pass.setBindGroup(0, step.group);
        pass.dispatchWorkgroups(...step.call.workgroups);
        if (timestamps) {
          pass.end();
          pass = undefined;
        }
        continue;
      }
      pass?.end();
      pass = undefined;
      if (step.kind === "clear") {
        const { buffer, offset } = step.tensor.memory;
        encoder.clearBuffer(buffer, offset, step.tensor.bytes);
      } else {
        const from = step.from.memory;
        const to = step.to.memory;
        encoder.copyBufferToBuffer(from.buffer, from.offset, to.buffer, to.offset, step.from.bytes);
      }
    }
    pass?.end();
  }

  /** Encodes and submits the plan by itself. */
  run(): void {
    this.plan.gpu.check();
    const encoder = this.plan.gpu.device.createCommandEncoder({ label: this.plan.label });
    this.encode(encoder);
    this.plan.gpu.device.queue.submit([encoder.finish()]);
  }

  /** Frees the plan's uniforms; its tensors' buffers belong to the pool. */
  destroy(): void {
    this.#uniforms?.destroy();
  }
}

/** Plans that share memory for their transient tensors. */
export interface BuiltPlans {
  readonly plans: readonly BuiltPlan[];
  readonly pool: Pool;
  /** Frees all that {@linkcode buildPlans} made. */
  destroy(): void;
}

/**
 * Makes plans ready to run. The plans share one pool of buffers, so at most one of them may be under way at a time (which the queue's
 * order gives by itself), and transient tensors do not survive from one plan to the next.
 *
 * @param options `isolate`: give every tensor a buffer of its own, to find errors in lifetimes.
 */
export async function buildPlans(
  gpu: Gpu,
  plans: readonly Plan[],
  options: { isolate?: boolean } = {},
): Promise<BuiltPlans> {
  const pool = assignMemory(gpu, plans, options);
  for (const { constants } of plans) {
    for (const [tensor, numbers] of constants) if (tensor.allocated) upload(gpu, tensor, numbers());
  }
  const built = await Promise.all(plans.map((plan) => finish(gpu, plan)));
  return {
    plans: built,
    pool,
    destroy() {
      for (const plan of built) plan.destroy();
      pool.destroy();
    },
  };
}

/**
 * Makes a plan ready, runs it a single time, waits for it, and frees it.
 *
 * @param outputs Tensors that are read back before that; transient ones are kept for it.
 * @returns Their numbers, by name.
 */
export async function runPlan<Name extends string = never>(
  plan: Plan,
  outputs: Readonly<Record<Name, Tensor>> = {} as Record<Name, Tensor>,
  options: { isolate?: boolean } = {},
): Promise<Record<Name, Float32Array | Uint32Array>> {
  const { gpu } = plan;
  const entries = Object.entries<Tensor>(outputs);
  for (const [, tensor] of entries) if (plan.transient.has(tensor.base)) plan.keep(tensor);
  const built = await buildPlans(gpu, [plan], options);
  try {
    built.plans[0]!.run();
    await gpu.guard(gpu.device.queue.onSubmittedWorkDone());
    const read = await Promise.all(
      entries.map(async ([name, tensor]) => [name, await download(gpu, tensor)] as const),
    );
    gpu.check();
    return Object.fromEntries(read) as Record<Name, Float32Array | Uint32Array>;
  } finally {
    built.destroy();
  }
}

async function finish(gpu: Gpu, plan: Plan): Promise<BuiltPlan> {
  const cache = PipelineCache.of(gpu);
  const placed = placeCopies(plan);
  const calls = placed.flatMap(({ step }) => step.kind === "dispatch" ? [step.call] : []);
  const pipelines = await Promise.all(calls.map((call) => cache.get(call)));

  const slots = calls.map((call) => encodeParams(call.params ?? {}));
  const offsets: number[] = [];
  let end = 0;
  for (const slot of slots) {
    offsets.push(end);
    end += roundUp(slot.length, ALIGNMENT);
  }
  const uniforms = end === 0 ? undefined : gpu.device.createBuffer({
    label: `${plan.label} parameters`,
    size: end,
    usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
    mappedAtCreation: true,
  });
  if (uniforms) {
    const bytes = new Uint8Array(uniforms.getMappedRange());
    slots.forEach((slot, i) => bytes.set(slot, offsets[i]));
    uniforms.unmap();
  }

  let next = 0;
  const steps = placed.map(({ step, copies }): Encodable => {
    if (step.kind !== "dispatch") return { ...step, copies };
    const i = next++;
    const { call } = step;
    const pipeline = pipelines[i]!;
    const resources: GPUBindingResource[] = Object.values(call.bindings).map(({ tensor, copy }) =>
      copy ? copy.texture.createView() : { ...tensor.memory, size: tensor.bytes }
    );
    const size = slots[i]!.length;
    if (uniforms && size > 0) resources.unshift({ buffer: uniforms, offset: offsets[i]!, size });
    const group = gpu.device.createBindGroup({
      label: call.label,
      layout: pipeline.getBindGroupLayout(0),
      entries: resources.map((resource, slot) => ({ binding: slot, resource })),
    });
    return { kind: "dispatch", pipeline, group, call, copies };
  });
  return new BuiltPlan(plan, steps, uniforms);
}
