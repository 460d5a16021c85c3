/**
 * Random numbers as Python's module `random` draws them, so that few-shot examples and bootstrapped errors are those of the harness.
 *
 * The generator is MT19937 (Matsumoto and Nishimura, 1998), seeded by an array of words as Python seeds it with a whole number.
 *
 * @module
 */

const WORDS = 624;
const SHIFT = 397;

/** Python's `random.Random(seed)`. */
export class PythonRandom {
  readonly #state = new Uint32Array(WORDS);
  #at = WORDS;

  /** @param seed A whole number from 0, below 2⁵³. */
  constructor(seed: number) {
    const key = [seed >>> 0];
    if (seed >= 2 ** 32) key.push(Math.floor(seed / 2 ** 32));
    this.#seed(19650218);
    const state = this.#state;
    let [i, j] = [1, 0];
    const wrap = () => {
      if (i < WORDS) return;
      state[0] = state[WORDS - 1]!;
      i = 1;
    };
    const mix = (factor: number) => {
      const before = state[i - 1]!;
      return Math.imul(before ^ (before >>> 30), factor);
    };
    for (let k = Math.max(WORDS, key.length); k > 0; k--) {
      state[i] = (state[i]! ^ mix(1664525)) + key[j]! + j;
      i++;
      j = (j + 1) % key.length;
      wrap();
    }
    for (let k = WORDS - 1; k > 0; k--) {
      state[i] = (state[i]! ^ mix(1566083941)) - i;
      i++;
      wrap();
    }
    state[0] = 0x80000000;
  }

  /** A number from 0 up to but not 1, of 53 bits. */
  random(): number {
    const high = this.#word() >>> 5;
    return (high * 2 ** 26 + (this.#word() >>> 6)) / 2 ** 53;
  }

  /** A whole number from 0 up to but not `bound`, which is below 2³². */
  below(bound: number): number {
    const bits = 32 - Math.clz32(bound);
    for (;;) {
      const drawn = this.#word() >>> (32 - bits);
      if (drawn < bound) return drawn;
    }
  }

  /** `count` different elements in random order, as `random.sample` draws them. @throws {RangeError} If there are fewer. */
  sample<T>(population: readonly T[], count: number): T[] {
    const size = population.length;
    if (count > size) {
      throw new RangeError(`${count} elements are to be drawn of ${size}; expected at most those`);
    }
    // Python takes a list for small populations and a set of drawn places for large ones, with different draws.
    let setSize = 21;
    if (count > 5) setSize += 4 ** Math.ceil(Math.log(count * 3) / Math.log(4));
    if (size <= setSize) {
      const pool = [...population];
      return Array.from({ length: count }, (_, i) => {
        const at = this.below(size - i);
        const drawn = pool[at]!;
        pool[at] = pool[size - i - 1]!;
        return drawn;
      });
    }
    const drawn = new Set<number>();
    while (drawn.size < count) drawn.add(this.below(size));
    return Array.from(drawn, (at) => population[at]!);
  }

  #seed(seed: number): void {
    const state = this.#state;
    state[0] = seed;
    for (let i = 1; i < WORDS; i++) {
      const before = state[i - 1]!;
      state[i] = Math.imul(before ^ (before >>> 30), 1812433253) + i;
    }
  }

  #word(): number {
    const state = this.#state;
    if (this.#at === WORDS) {
      for (let i = 0; i < WORDS; i++) {
        const y = (state[i]! & 0x80000000) | (state[(i + 1) % WORDS]! & 0x7fffffff);
        state[i] = state[(i + SHIFT) % WORDS]! ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      this.#at = 0;
    }
    let word = state[this.#at++]!;
    word ^= word >>> 11;
    word ^= (word << 7) & 0x9d2c5680;
    word ^= (word << 15) & 0xefc60000;
    return (word ^ (word >>> 18)) >>> 0;
  }
}
