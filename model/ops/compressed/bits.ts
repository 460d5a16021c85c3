/**
 * Numbers of a few bits in words of 32: number `e` of `bits` bits begins at bit `e · bits`, low bits first, and may cross into the next word.
 *
 * @module
 */

/** Words of 32 bits that hold `count` numbers of `bits` bits. */
export function packedWords(count: number, bits: number): number {
  return Math.ceil(count * bits / 32);
}

/** Bits of a word that are set. */
export function bitCount(word: number): number {
  let v = word - ((word >>> 1) & 0x55555555);
  v = (v & 0x33333333) + ((v >>> 2) & 0x33333333);
  return Math.imul((v + (v >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

/** Number `e` of `bits` bits in words that begin at `first`. */
export function readPacked(words: Uint32Array, first: number, e: number, bits: number): number {
  if (bits === 0) return 0;
  const at = first + (e * bits >>> 5);
  const shift = e * bits & 31;
  let value = words[at]! >>> shift;
  if (shift + bits > 32) value |= words[at + 1]! << (32 - shift);
  return value & ((1 << bits) - 1);
}

/** Where a run of numbers lies. */
interface Run {
  /** Its first word; a run begins with a new one. */
  readonly first: number;
  /** Numbers of it. */
  readonly count: number;
  /** Of each number, fewer than 32. */
  readonly bits: number;
}

/** Puts the first `count` of `numbers`, of `bits` bits each, into words of zeros. */
export function packRun(
  words: Uint32Array,
  { first, count, bits }: Run,
  numbers: Uint8Array | Uint32Array,
): void {
  if (bits === 0) return;
  let at = first;
  let word = 0;
  let shift = 0;
  for (let e = 0; e < count; e++) {
    const number = numbers[e]!;
    word |= number << shift;
    shift += bits;
    if (shift < 32) continue;
    words[at++] = word;
    shift -= 32;
    // JavaScript shifts by 32 as by 0.
    word = shift === 0 ? 0 : number >>> (bits - shift);
  }
  if (shift > 0) words[at] = word;
}

/** Reads `count` numbers of `bits` bits each into `numbers`, from `to` on. */
export function unpackRun(
  words: Uint32Array,
  { first, count, bits }: Run,
  { numbers, to = 0 }: { readonly numbers: Uint8Array | Uint32Array; readonly to?: number },
): void {
  if (bits === 0) return void numbers.fill(0, to, to + count);
  const mask = (1 << bits) - 1;
  let at = first;
  let word = 0;
  let left = 0;
  for (let e = 0; e < count; e++) {
    let number = word;
    if (left < bits) {
      word = words[at++]!;
      // The high bits of a number that crosses into this word.
      number |= word << left;
      word = left === 0 ? word >>> bits : word >>> (bits - left);
      left += 32 - bits;
    } else {
      word >>>= bits;
      left -= bits;
    }
    numbers[to + e] = number & mask;
  }
}
