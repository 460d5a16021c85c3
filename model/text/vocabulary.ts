/** Names of the encodings, whose ids are a vocabulary as they are. `encodings.ts` has what there is to each. */
export const ENCODING_NAMES = ["cl100k_base", "gpt2"] as const;

/** Name of an encoding. */
export type EncodingName = typeof ENCODING_NAMES[number];

/** The contents of `vocabulary.json`; `tokens` are the `cl100k_base` ids behind the compact ids 256, 257, …. */
export type Vocabulary =
  & { format: "ethos-vocabulary"; version: 1; vocab_size: number; endoftext: number }
  & ({ vocabulary: EncodingName } | { vocabulary: "compact"; tokens: number[] });
