/**
 * The end of a layer whose last product is not all of it: a bias, dropout and the residual stream.
 *
 * @module
 */

import source from "../../../shaders/elementwise/add_residual.wgsl" with { type: "text" };
import { grid, read, write } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { dropoutParts, type RecordedDropout } from "../dropout/dropout.ts";

/** Operands of {@linkcode addResidual}. */
export interface AddResidual {
  /** `[rows, D]`. */
  readonly x: Tensor;
  /** `[D]`. */
  readonly bias?: Tensor | undefined;
  readonly dropout?: RecordedDropout | undefined;
  /** `[rows, D]`. */
  readonly residual: Tensor;
  /** `[rows, D]`. */
  readonly y: Tensor;
}

/** Records `y = residual + drop(x + bias)`. */
export function addResidual(plan: Plan, label: string, operands: AddResidual): void {
  const { x, bias, dropout, residual, y } = operands;
  for (const other of [residual, y]) {
    if (other.size !== x.size || other.width !== x.width || x.width % 4 !== 0) {
      throw new RangeError(
        `${label}: ${x.name} is ${x.rows}×${x.width}, ${other.name} ${other.rows}×${other.width}; expected the same, with a width that is a multiple of 4`,
      );
    }
  }
  if (bias && bias.size !== x.width) {
    throw new RangeError(`${label}: ${bias.name} has ${bias.size} elements, expected ${x.width}`);
  }
  const parts = dropoutParts(dropout);
  plan.dispatch({
    label,
    name: "add_residual",
    source: parts.source + source,
    constants: { BIAS: !!bias, ...parts.constants },
    params: { rows: x.rows, columns4: x.width / 4, ...parts.params },
    bindings: {
      x: read(x),
      residual: read(residual),
      y: write(y),
      ...(bias && { bias: read(bias) }),
      ...parts.bindings,
    },
    workgroups: grid(Math.ceil(x.size / 4 / 64)),
    flops: x.size * (bias ? 2 : 1),
    bytes: x.bytes + residual.bytes + y.bytes,
  });
}
