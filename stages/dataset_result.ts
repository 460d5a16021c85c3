/**
 * The counts of a dataset that `tokenize` publishes: a schema for those who read it.
 *
 * @module
 */

import { z } from "zod";
import { ENCODING_NAMES } from "../model/text/vocabulary.ts";

const counts = z.object({
  tokens: z.int(),
  bytes: z.int().describe("UTF-8 bytes of the text; the token between documents has none"),
  documents: z.int(),
});

const split = counts.extend({
  unigram_entropy_nats: z.number()
    .describe("entropy of its tokens: the loss of the best model that sees no context"),
  shards: z.array(counts.extend({ file: z.string() })),
});

/** The `dataset` output. */
export const datasetSchema = z.object({
  vocabulary: z.enum([...ENCODING_NAMES, "compact"]),
  vocab_size: z.int(),
  endoftext: z.int(),
  vocabulary_digest: z.string(),
  validation_fraction: z.number().nullable()
    .describe("null where the source itself said what is held out"),
  documents: z.int(),
  duplicates: z.int(),
  empty: z.int(),
  splits: z.object({ train: split, validation: split }),
});

/** The `dataset` output. */
export type DatasetResult = z.infer<typeof datasetSchema>;

/** The counts of one split. */
export type SplitCounts = z.infer<typeof split>;
