/**
 * Dropout by masks that are a function of (seed, update, micro-batch, place, row, column), from integer arithmetic: recomputation, a
 * resumed run and another adapter drop the same numbers.
 *
 * A place is a name, such as `layers.3.attn.output`. The key of a micro-batch is made on the GPU from the control tensor's number of the update, so a
 * recorded plan serves every update. `model/reference/dropout.ts` makes the same masks on the host.
 *
 * @module
 */

import keySource from "../../../shaders/dropout/dropout_key.wgsl" with { type: "text" };
import rowsSource from "../../../shaders/dropout/dropout_rows.wgsl" with { type: "text" };
import source from "../../../shaders/dropout/dropout.wgsl" with { type: "text" };
import {
  type Binding,
  type Call,
  f32,
  grid,
  read,
  readFields,
  readScalar,
  update,
  updateScalar,
  write,
} from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { CONTROL } from "../control.ts";
import { stream } from "../optimizer/initialize.ts";

/** Where numbers are dropped, and how many. */
export interface Dropout {
  /** The place's number: a hash of its name. */
  readonly place: number;
  /** Share of the numbers that are dropped, p, from 0 to below 1. */
  readonly rate: number;
}

/** {@linkcode Dropout} in a recorded plan. */
export interface RecordedDropout extends Dropout {
  /** `[2]` u32, which {@linkcode dropoutKey} fills. */
  readonly key: Tensor;
}

/** The number of a place by its name. */
export const dropoutPlace: (name: string) => number = stream;

/** Elements of the tensor that {@linkcode dropoutKey} fills. */
export const DROPOUT_KEY = 2;

/** Hashes below it are dropped numbers. */
function threshold(rate: number): number {
  if (!(rate >= 0 && rate < 1)) {
    throw new RangeError(`The rate of dropout is ${rate}; expected from 0 to below 1`);
  }
  return Math.min(2 ** 32 - 1, Math.round(rate * 2 ** 32));
}

/** Records the key of the update's first micro-batch, or of the one after the last. The control tensor holds the number of the update. */
export function dropoutKey(
  plan: Plan,
  label: string,
  { key, control, seed, first }: {
    readonly key: Tensor;
    readonly control: Tensor;
    readonly seed: number;
    readonly first: boolean;
  },
): void {
  plan.dispatch({
    label,
    name: "dropout_key",
    source: keySource,
    constants: { FIRST: first },
    params: { seed: seed >>> 0 },
    bindings: { control: readFields(control, CONTROL), key: updateScalar(key) },
    workgroups: [1, 1, 1],
  });
}

/** The parts of a kernel's call that drops numbers: text to put first, constants, parameters and a binding. All empty without dropout. */
export function dropoutParts(dropout: RecordedDropout | undefined): {
  readonly source: string;
  readonly constants: { readonly DROPOUT?: true };
  readonly params: NonNullable<Call["params"]>;
  readonly bindings: Readonly<Record<string, Binding>>;
} {
  if (!dropout) return { source: "", constants: {}, params: {}, bindings: {} };
  const { key, place, rate } = dropout;
  return {
    source,
    constants: { DROPOUT: true },
    params: {
      dropout_place: place,
      dropout_threshold: threshold(rate),
      dropout_keep: f32(1 / (1 - rate)),
    },
    bindings: { dropout_key: readScalar(key) },
  };
}

/** Operands of {@linkcode dropoutRows}. */
export interface DropoutRows {
  /** `[rows, n]`. */
  readonly x: Tensor;
  /** `[rows, n]`; may be `x`. */
  readonly y: Tensor;
  readonly dropout: RecordedDropout;
  /** `[rows]` u32: the row of the mask that each row takes, for rows in an order that means nothing, as experts sort them. Its own unless given. */
  readonly numbers?: Tensor | undefined;
}

/** Records `y = x ∘ f` with the factors `f`, of rows and columns of `x`. The gradient is the same of the gradient. */
export function dropoutRows(plan: Plan, label: string, operands: DropoutRows): void {
  const { x, y, dropout, numbers } = operands;
  if (x.size !== y.size || x.width !== y.width || x.width % 4 !== 0) {
    throw new RangeError(
      `${label}: ${x.name} is ${x.rows}×${x.width}, ${y.name} ${y.rows}×${y.width}; expected the same, with a width that is a multiple of 4`,
    );
  }
  if (numbers && numbers.size !== x.rows) {
    throw new RangeError(`${label}: ${numbers.name} numbers ${numbers.size} of ${x.rows} rows`);
  }
  const parts = dropoutParts(dropout);
  const inPlace = x === y;
  plan.dispatch({
    label,
    name: "dropout_rows",
    source: parts.source + rowsSource,
    constants: { IN_PLACE: inPlace, NUMBERED: !!numbers },
    params: { rows: x.rows, columns4: x.width / 4, ...parts.params },
    bindings: {
      ...(inPlace ? { y: update(y) } : { x: read(x), y: write(y) }),
      ...(numbers && { numbers: readScalar(numbers) }),
      ...parts.bindings,
    },
    workgroups: grid(Math.ceil(x.size / 4 / 64)),
    bytes: x.bytes + y.bytes,
  });
}
