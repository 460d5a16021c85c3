/**
 * Byte-pair encoding in n log n, for pieces of any length.
 *
 * The pair with the lowest rank is merged first, the leftmost of equals; a heap finds it. `tiktoken` looks through the
 * whole piece for it, which takes quadratic time. Both give the same ids.
 *
 * @module
 */

/** Ids in the order in which they are added. */
export class IdList {
  #ids = new Uint32Array(1024);
  #length = 0;

  /** Adds one id. */
  push(id: number): void {
    if (this.#length === this.#ids.length) {
      const larger = new Uint32Array(2 * this.#length);
      larger.set(this.#ids);
      this.#ids = larger;
    }
    this.#ids[this.#length++] = id;
  }

  /** All ids. */
  toArray(): Uint32Array {
    return this.#ids.slice(0, this.#length);
  }
}

/** A heap's key is `rank × POSITIONS + position`. */
const POSITIONS = 2 ** 31;

/** A text whose UTF-8 is, a character a byte, the text itself. */
const ASCII = /^[\0-\x7f]*$/;

/** The ranks of a tokenizer, by the bytes of its tokens. */
export class BytePairs {
  /** Bytes of a token, one character each, by id. */
  readonly #tokens: string[] = [];
  /** Id by the same string. */
  readonly #ids = new Map<string, number>();
  /** Ids of the single bytes. */
  readonly #bytes = new Int32Array(256);

  /**
   * Reads ranks as `tiktoken` ships them.
   *
   * @param ranks Lines of a name, the first id, and the bytes of consecutive ids in base64.
   */
  constructor(ranks: string) {
    for (const line of ranks.split("\n")) {
      const [, first, ...tokens] = line.split(" ");
      tokens.forEach((token, index) => {
        const bytes = atob(token);
        const id = Number(first) + index;
        this.#tokens[id] = bytes;
        this.#ids.set(bytes, id);
        if (bytes.length === 1) this.#bytes[bytes.charCodeAt(0)] = id;
      });
    }
  }

  /**
   * Adds the ids of one piece to `ids`.
   *
   * A piece of n bytes takes 32 n bytes of memory while it is merged.
   *
   * @param piece Text within which pairs may merge, without lone surrogates.
   */
  encode(piece: string, ids: IdList): void {
    const bytes = ASCII.test(piece) ? piece : byteLetters(new TextEncoder().encode(piece));
    const known = this.#ids.get(bytes);
    if (known !== undefined) ids.push(known);
    else new Merge(bytes, this).run(ids);
  }

  /** Bytes of a token, one character each; none of an id that is no token. */
  token(id: number): string {
    return this.#tokens[id] ?? "";
  }

  /** Id of a single byte. */
  byteId(byte: number): number {
    return this.#bytes[byte]!;
  }

  /** Id, which is the rank, of two tokens put together; −1 if they are none. */
  pairId(left: number, right: number): number {
    return this.#ids.get(this.#tokens[left]! + this.#tokens[right]!) ?? -1;
  }
}

/** Bytes that become letters in one call, whose arguments are limited. */
const LETTERS = 4096;

/** A string with a character a byte. */
function byteLetters(bytes: Uint8Array): string {
  let letters = "";
  for (let at = 0; at < bytes.length; at += LETTERS) {
    letters += String.fromCharCode(...bytes.subarray(at, at + LETTERS));
  }
  return letters;
}

/** The merging of one piece. A part begins at a position of the piece and is a token. */
class Merge {
  readonly #pairs: BytePairs;
  readonly #size: number;
  /** Token of the part that begins at a position. */
  readonly #token: Int32Array;
  /** Where the part after it begins, and the part before it. */
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  /** Rank of the part with the one after it; −1 where nothing merges, or where no part begins. */
  readonly #rank: Int32Array;
  /** Pairs to merge; a key is out of date when its rank is no longer that of its position. */
  readonly #heap: Float64Array;
  #heapSize = 0;

  /** @param bytes The piece's bytes, one character each. */
  constructor(bytes: string, pairs: BytePairs) {
    const size = bytes.length;
    this.#pairs = pairs;
    this.#size = size;
    this.#token = new Int32Array(size);
    this.#next = new Int32Array(size);
    this.#previous = new Int32Array(size);
    this.#rank = new Int32Array(size);
    // At first a key a pair; each of at most `size − 1` merges takes one and adds two.
    this.#heap = new Float64Array(2 * size);
    for (let at = 0; at < size; at++) {
      this.#token[at] = pairs.byteId(bytes.charCodeAt(at));
      this.#next[at] = at + 1;
      this.#previous[at] = at - 1;
    }
    for (let at = 0; at < size; at++) {
      const rank = this.#rankAt(at);
      if (rank >= 0) this.#heap[this.#heapSize++] = rank * POSITIONS + at;
    }
    this.#order();
  }

  run(ids: IdList): void {
    while (this.#heapSize > 0) {
      const key = this.#pop();
      const at = key % POSITIONS;
      const rank = Math.floor(key / POSITIONS);
      if (this.#rank[at] === rank) this.#merge(at, rank);
    }
    for (let at = 0; at < this.#size; at = this.#next[at]!) ids.push(this.#token[at]!);
  }

  /** Puts the part at `at` and the next one together. */
  #merge(at: number, token: number): void {
    const gone = this.#next[at]!;
    const after = this.#next[gone]!;
    this.#token[at] = token;
    this.#rank[gone] = -1;
    this.#next[at] = after;
    if (after < this.#size) this.#previous[after] = at;
    this.#update(at);
    const before = this.#previous[at]!;
    if (before >= 0) this.#update(before);
  }

  #update(at: number): void {
    const rank = this.#rankAt(at);
    if (rank >= 0) this.#push(rank * POSITIONS + at);
  }

  /** Looks up the rank of the part at `at` with the next one. */
  #rankAt(at: number): number {
    const next = this.#next[at]!;
    return this.#rank[at] = next < this.#size
      ? this.#pairs.pairId(this.#token[at]!, this.#token[next]!)
      : -1;
  }

  #push(key: number): void {
    const heap = this.#heap;
    let at = this.#heapSize++;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (heap[parent]! <= key) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = key;
  }

  #pop(): number {
    const least = this.#heap[0]!;
    const last = this.#heap[--this.#heapSize]!;
    if (this.#heapSize > 0) this.#sink(0, last);
    return least;
  }

  /** Places `key` at `at` or below. */
  #sink(at: number, key: number): void {
    const heap = this.#heap;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= this.#heapSize) break;
      if (child + 1 < this.#heapSize && heap[child + 1]! < heap[child]!) child++;
      if (key <= heap[child]!) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = key;
  }

  /** Makes a heap of keys in any order. */
  #order(): void {
    for (let at = (this.#heapSize >> 1) - 1; at >= 0; at--) this.#sink(at, this.#heap[at]!);
  }
}
