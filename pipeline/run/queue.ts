/**
 * A queue whose ends cost the same however long it is; `Array.shift` moves all that is left.
 *
 * @module
 */

/** First in, first out. */
export class Queue<T> {
  #items: T[] = [];
  #head = 0;

  /** How many wait. */
  get length(): number {
    return this.#items.length - this.#head;
  }

  /** Puts one at the end. */
  push(item: T): void {
    this.#items.push(item);
  }

  /** Takes the first; nothing from an empty queue. */
  shift(): T | undefined {
    if (this.length === 0) return undefined;
    const item = this.#items[this.#head++];
    // Half of the array is over: moving the rest costs no more than taking it did.
    if (2 * this.#head >= this.#items.length) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
    return item;
  }

  /** Up to `count` of the first, which stay. */
  peek(count: number): readonly T[] {
    return this.#items.slice(this.#head, this.#head + count);
  }
}
