/**
 * Helpers for tests of whole trainings: tiny data, and hooks that remember.
 *
 * @module
 */

import type { TextSample } from "../inference/text_samples.ts";
import { tokenSource } from "./trainer_testing.ts";
import type { TrainingData, TrainingHooks } from "./training.ts";

/** Random tokens of the tiny model. */
export const tinyData: TrainingData = {
  train: tokenSource(400, 61, 11),
  validation: tokenSource(90, 61, 12),
  byteLength: (token) => token === 0 ? 0 : 2,
  endoftext: 0,
};

/** Hooks that keep what a metrics table would. */
export class Table implements TrainingHooks {
  /** Rows that follow from the configuration, by step. */
  rows: [number, Readonly<Record<string, number>>][] = [];
  measured: [number, Readonly<Record<string, number>>][] = [];
  warnings: string[] = [];
  flushed: number[] = [];
  onFlush: () => void = () => {};
  rewind(step: number) {
    this.rows = this.rows.filter(([at]) => at <= step);
    this.samples = this.samples.filter(([at]) => at <= step);
  }
  write(step: number, values: Readonly<Record<string, number>>) {
    this.rows.push([step, values]);
  }
  measure(step: number, values: Readonly<Record<string, number>>) {
    this.measured.push([step, values]);
  }
  /** Texts by step, as a file of samples has them after rewinds. */
  samples: [number, readonly TextSample[]][] = [];
  sample(step: number, samples: readonly TextSample[]) {
    this.samples.push([step, samples]);
  }
  flush() {
    this.flushed.push(this.rows.length);
    this.onFlush();
  }
  progress() {}
  /** Updates after which a run was resumed. */
  resumed: number[] = [];
  info(message: string) {
    const step = /^resumed after update (\d+) /.exec(message)?.[1];
    if (step !== undefined) this.resumed.push(Number(step));
  }
  warn(message: string) {
    this.warnings.push(message);
  }
}
