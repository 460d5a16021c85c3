/**
 * The parts in which an update's numbers leave the device, and how early the backward pass is done with each.
 *
 * @module
 */

import { type Plan, tensorsOf } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";

/** A run of a tensor's elements. */
export interface Slice {
  readonly tensor: Tensor;
  readonly first: number;
  readonly count: number;
}

/** Numbers that travel together. */
export interface Part {
  readonly slices: readonly Slice[];
  /** Elements of all slices. */
  readonly size: number;
  /** Steps of the plan after which all of them are final. */
  readonly ready: number;
  /** Whether the groups' mean counts instead of their sum. */
  readonly mean: boolean;
}

/** Options of {@linkcode partsOf}. */
export interface PartsOptions {
  /** The plans of a group's micro-batches, the last one being the one that is followed. */
  readonly plans: readonly Plan[];
  /** Tensors that are summed over groups. */
  readonly sums: readonly Tensor[];
  /** Tensors that are averaged over groups. */
  readonly means: readonly Tensor[];
  /** Elements of a part, at most. */
  readonly most: number;
}

/**
 * Cuts tensors into parts, in the order in which the last plan is done with them. The recorded plan says when that is: no list of layers does. A tensor that
 * no plan touches is left out, for it stays as it is.
 */
export function partsOf({ plans, sums, means, most }: PartsOptions): Part[] {
  const touched = new Set<Tensor>();
  const ready = new Map<Tensor, number>();
  for (const { steps } of plans) {
    ready.clear();
    steps.forEach((step, i) => {
      for (const { base } of tensorsOf(step)) {
        touched.add(base);
        ready.set(base, i + 1);
      }
    });
  }
  const readyOf = (tensor: Tensor) => ready.get(tensor.base) ?? 0;
  const cut = (tensors: readonly Tensor[], mean: boolean) => {
    const parts: Part[] = [];
    let slices: Slice[] = [];
    let size = 0;
    const close = () => {
      if (size === 0) return;
      parts.push({ slices, size, mean, ready: readyOf(slices.at(-1)!.tensor) });
      slices = [];
      size = 0;
    };
    const used = tensors.filter(({ base }) => touched.has(base));
    for (const tensor of used.toSorted((a, b) => readyOf(a) - readyOf(b))) {
      for (let first = 0; first < tensor.size;) {
        const count = Math.min(tensor.size - first, most - size);
        slices.push({ tensor, first, count });
        first += count;
        size += count;
        if (size === most) close();
      }
    }
    close();
    return parts;
  };
  return [...cut(sums, false), ...cut(means, true)].sort((a, b) => a.ready - b.ready);
}

/** Steps of a plan that run without a look at the host, and the parts, by number, that are final after them. */
export interface Segment {
  readonly first: number;
  readonly end: number;
  readonly parts: readonly number[];
}

/** Cuts a plan of so many steps where parts become final; the last segment may have none. */
export function segmentsOf(steps: number, parts: readonly Pick<Part, "ready">[]): Segment[] {
  const ends = [...new Set([...parts.map(({ ready }) => ready), steps])].sort((a, b) => a - b);
  return ends.map((end, i) => ({
    first: ends[i - 1] ?? 0,
    end,
    parts: parts.flatMap(({ ready }, part) => ready === end ? [part] : []),
  }));
}
