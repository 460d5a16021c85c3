/**
 * A set of 16-byte hashes in flat memory: 32 bytes or less an entry, where a `Set` of strings takes over 80.
 *
 * @module
 */

/** A set of 16-byte hashes, by open addressing. */
export class HashSet {
  #words = new Uint32Array(4 * 1024);
  #used = new Uint8Array(1024);
  #size = 0;

  /** Hashes in the set. */
  get size(): number {
    return this.#size;
  }

  /**
   * Adds a hash.
   *
   * @param hash 16 bytes that are uniformly distributed.
   * @returns Whether it is new.
   */
  add(hash: Uint8Array): boolean {
    if (hash.length !== 16) throw new RangeError(`A hash has ${hash.length} bytes; expected 16`);
    const view = new DataView(hash.buffer, hash.byteOffset, 16);
    const added = this.#insert(
      view.getUint32(0),
      view.getUint32(4),
      view.getUint32(8),
      view.getUint32(12),
    );
    if (added && ++this.#size * 4 > this.#used.length * 3) this.#grow();
    return added;
  }

  #insert(a: number, b: number, c: number, d: number): boolean {
    const words = this.#words;
    const mask = this.#used.length - 1;
    // The last word: the first ones decide the split, and half of the table would be crowded.
    for (let slot = d & mask;; slot = (slot + 1) & mask) {
      const at = 4 * slot;
      if (this.#used[slot] === 0) {
        this.#used[slot] = 1;
        words[at] = a;
        words[at + 1] = b;
        words[at + 2] = c;
        words[at + 3] = d;
        return true;
      }
      if (words[at] === a && words[at + 1] === b && words[at + 2] === c && words[at + 3] === d) {
        return false;
      }
    }
  }

  #grow(): void {
    const words = this.#words;
    const used = this.#used;
    this.#words = new Uint32Array(words.length * 2);
    this.#used = new Uint8Array(used.length * 2);
    for (let slot = 0; slot < used.length; slot++) {
      if (used[slot] === 0) continue;
      const at = 4 * slot;
      this.#insert(words[at]!, words[at + 1]!, words[at + 2]!, words[at + 3]!);
    }
  }
}
