/**
 * Parts of a training whose code only those trainings run that have them: a start from a published model, samples of text.
 *
 * @module
 */

export const PARTS = {
  initial: {
    module: import.meta.resolve("./published.ts"),
    load: () => import("./published.ts"),
  },
  samples: {
    module: import.meta.resolve("../../model/inference/text_samples.ts"),
    load: () => import("../../model/inference/text_samples.ts"),
  },
} as const;
