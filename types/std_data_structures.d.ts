/** Types of the parts of `@std/data-structures` that the project uses; deno-std on npm ships none. */

/** A queue whose least element, by a comparison, comes first. */
export class BinaryHeap<T> {
  constructor(compare?: (a: T, b: T) => number);
  readonly length: number;
  push(...values: T[]): number;
  pop(): T | undefined;
}
