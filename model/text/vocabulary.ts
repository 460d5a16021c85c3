import type { EncodingName } from "./encodings.ts";

/** The contents of `vocabulary.json`; `tokens` are the `cl100k_base` ids behind the compact ids 256, 257, …. */
export type Vocabulary =
  & { format: "ethos-vocabulary"; version: 1; vocab_size: number; endoftext: number }
  & ({ vocabulary: EncodingName } | { vocabulary: "compact"; tokens: number[] });
