/**
 * Causal attention, with or without a rotary key that all heads share, forward and backward. The scores are in memory where there is room for some heads'
 * (`attention_stored.ts`); forward on matrix units, and where there is no room, they never are.
 *
 * @module
 */

import deltaSource from "../../../shaders/attention/attention_delta.wgsl" with { type: "text" };
import {
  type Binding,
  f32,
  grid,
  loading,
  read,
  readScalar,
  write,
  writeScalar,
} from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { DType, Tensor } from "../../gpu/tensor.ts";
import { dropoutParts, type RecordedDropout } from "../dropout/dropout.ts";
import {
  type AttentionKernel,
  type AttentionOptions,
  chooseAttention,
} from "./attention_kernels.ts";
import type { AttentionBackward, AttentionForward, AttentionSizes } from "./attention_operands.ts";
import { type StoredPairs, storedPairs } from "./attention_pairs.ts";
import { storedBackward } from "./attention_stored.ts";
import { storedForward } from "./attention_stored_forward.ts";
import { scoreTiles } from "./attention_tiled_scores.ts";

/** Tokens of a sequence from which on the forward pass is faster with its scores in memory. */
const STORED_LENGTH = 1024;

/** Records `o_h = softmax(q_h k_hᵀ / √(nope+rope), causal) v_h` for every head and sequence. */
export function attentionForward(
  plan: Plan,
  label: string,
  operands: AttentionForward & AttentionOptions,
): void {
  const { sizes, q, kv, kr, o, log_sum, dropout } = operands;
  checkShapes(label, operands);
  const { capabilities } = plan.gpu;
  const dtype = commonType(q, kv, kr ?? q);
  const { scores = sizes.length >= STORED_LENGTH ? "stored" : "recomputed" } = operands;
  const stored = storedBy(plan, { ...operands, scores }, dtype);
  const tiles = stored && scoreTiles(capabilities, sizes, q.dtype);
  if (tiles) {
    storedForward(plan, label, { ...operands, stored, tiles });
    return;
  }
  const kernel = chooseAttention(capabilities, "forward", {
    widths: sizes,
    dtype,
    length: sizes.length,
  });
  const reading = (tensor: Tensor) => loading(tensor, kernel.loads);
  record(plan, label, {
    kernel,
    sizes,
    dropout,
    bindings: {
      q: reading(q),
      kv: reading(kv),
      ...(kr && { kr: reading(kr) }),
      o: write(o),
      log_sum: writeScalar(log_sum),
    },
    products: sizes.d_nope + sizes.d_rope + sizes.d_v,
  });
}

/** How many scores are stored at a time, where there is room and nothing else is preferred. */
function storedBy(
  plan: Plan,
  { sizes, scores }: { sizes: AttentionSizes } & AttentionOptions,
  dtype: DType | undefined,
): StoredPairs | undefined {
  return scores === "recomputed" ? undefined : storedPairs(plan.gpu.capabilities, sizes, dtype);
}

/**
 * Records the gradients of {@linkcode attentionForward}. The scores are computed again: stored, for products over them, or twice, once by rows of queries and
 * once by rows of keys. Every sum belongs to one invocation, so its order is fixed.
 */
export function attentionBackward(
  plan: Plan,
  label: string,
  operands: AttentionBackward & AttentionOptions,
): void {
  const { sizes, q, kv, kr, o, log_sum, d_o, d_q, d_kv, d_kr } = operands;
  checkShapes(label, operands);
  const { batch, length, heads, d_nope, d_rope, d_v } = sizes;
  const tokens = batch * length;
  const delta = plan.tensor(`${label}.delta`, [heads, tokens]);
  const dtype = commonType(q, kv, kr ?? q, d_o);
  const stored = storedBy(plan, operands, dtype);
  // On a software adapter the kernel of the queries' side has d_o in registers, and a dispatch costs more than loading o.
  const direct = !stored && plan.gpu.capabilities.software;
  if (!direct) {
    const lanes = 64;
    plan.dispatch({
      label: `${label}.delta`,
      name: "attention_delta",
      source: deltaSource,
      constants: { V4: d_v / 4, LANES: lanes },
      params: { tokens, heads },
      bindings: { o: read(o), d_o: read(d_o), delta: writeScalar(delta) },
      workgroups: grid(Math.ceil(tokens * heads / lanes)),
      flops: 2 * tokens * heads * d_v,
    });
  }
  if (stored) {
    storedBackward(plan, label, { ...operands, delta, stored });
    return;
  }
  const qk = d_nope + d_rope;
  for (const side of ["query", "key"] as const) {
    const kernel = chooseAttention(plan.gpu.capabilities, side, {
      widths: sizes,
      dtype,
      length,
    });
    const reading = (tensor: Tensor) => loading(tensor, kernel.loads);
    record(plan, `${label}.${side}`, {
      kernel,
      sizes,
      dropout: operands.dropout,
      bindings: {
        q: reading(q),
        kv: reading(kv),
        ...(kr && { kr: reading(kr) }),
        d_o: reading(d_o),
        log_sum: readScalar(log_sum),
        ...(direct && side === "query"
          ? { o: read(o), delta: writeScalar(delta) }
          : { delta: readScalar(delta) }),
        ...(side === "query" ? { d_q: write(d_q) } : { d_kv: write(d_kv) }),
        ...(side === "key" && d_kr && { d_kr: write(d_kr) }),
      },
      products: side === "query" ? 2 * qk + d_v : 2 * (qk + d_v),
    });
  }
}

/** Records a kernel that goes over the causal half of every head's scores by blocks of `rows`. */
function record(plan: Plan, label: string, call: {
  kernel: AttentionKernel;
  sizes: AttentionSizes;
  dropout: RecordedDropout | undefined;
  bindings: Record<string, Binding>;
  /** Multiplications for one score. */
  products: number;
}): void {
  const { batch, length, heads, d_nope, d_rope, d_v } = call.sizes;
  const { name, source, constants, rows } = call.kernel;
  const blocks = Math.ceil(length / rows);
  const dropout = dropoutParts(call.dropout);
  const scale = f32(1 / Math.sqrt(d_nope + d_rope));
  plan.dispatch({
    label,
    name,
    source: dropout.source + source,
    constants: {
      NOPE4: d_nope / 4,
      ROPE4: d_rope / 4,
      V4: d_v / 4,
      ...constants,
      ...dropout.constants,
    },
    params: { batch, length, heads, blocks, scale, ...dropout.params },
    bindings: { ...call.bindings, ...dropout.bindings },
    workgroups: grid(batch * heads * blocks),
    flops: 2 * call.products * batch * heads * length * (length + 1) / 2,
  });
}

/** The type that tensors share. */
function commonType(...tensors: [Tensor, ...Tensor[]]): DType | undefined {
  const { dtype } = tensors[0];
  return tensors.every((tensor) => tensor.dtype === dtype) ? dtype : undefined;
}

function checkShapes(label: string, operands: AttentionForward | AttentionBackward): void {
  const { batch, length, heads, d_nope, d_rope, d_v } = operands.sizes;
  for (const [name, width] of Object.entries({ d_nope, d_rope, d_v })) {
    if (width % 4 !== 0 || width < (name === "d_rope" ? 0 : 4)) {
      throw new RangeError(`${label}: ${name} is ${width}, not a positive multiple of 4`);
    }
  }
  for (const [name, tensor] of Object.entries({ kr: operands.kr, ...gradientOfKey(operands) })) {
    if ((tensor !== undefined) !== d_rope > 0) {
      throw new RangeError(
        `${label}: ${name} is ${tensor ? "given" : "missing"} and d_rope is ${d_rope}`,
      );
    }
  }
  if (operands.dropout && d_rope > 0) {
    throw new RangeError(`${label}: dropout takes heads that share no part of their keys`);
  }
  const tokens = batch * length;
  const widths = {
    q: heads * (d_nope + d_rope),
    kv: heads * (d_nope + d_v),
    kr: d_rope,
    o: heads * d_v,
    log_sum: heads,
  };
  const wanted: [string, Tensor | undefined, number][] = [];
  for (const name of ["q", "kv", "kr", "o", "log_sum"] as const) {
    wanted.push([name, operands[name], widths[name]]);
  }
  if ("d_o" in operands) {
    wanted.push(
      ["d_o", operands.d_o, widths.o],
      ["d_q", operands.d_q, widths.q],
      ["d_kv", operands.d_kv, widths.kv],
      ["d_kr", operands.d_kr, heads * d_rope],
    );
  }
  for (const [name, tensor, width] of wanted) {
    if (tensor && tensor.size !== tokens * width) {
      throw new RangeError(
        `${label}: ${name} (${tensor.name}) has ${tensor.size} elements, expected ${tokens}·${width}`,
      );
    }
  }
}

/** The gradient of the shared key, of operands that have gradients. */
function gradientOfKey(operands: AttentionForward | AttentionBackward) {
  return "d_o" in operands ? { d_kr: operands.d_kr } : {};
}
