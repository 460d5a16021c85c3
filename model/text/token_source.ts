/** A long row of tokens that can be read from anywhere. */
export interface TokenSource {
  /** Number of tokens. */
  readonly length: number;
  /** Tokens `offset` to `offset + count`. */
  read(offset: number, count: number): Uint32Array;
}
