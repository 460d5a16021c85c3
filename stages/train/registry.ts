/**
 * Starts of a training whose code only those trainings run, by the name of the input that they read.
 *
 * @module
 */

export const STARTS = {
  initial: {
    module: import.meta.resolve("./published.ts"),
    load: () => import("./published.ts"),
  },
} as const;
