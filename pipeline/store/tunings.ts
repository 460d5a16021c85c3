/**
 * How long ways of computing something take, kept for each device: the table `tunings`, a cache.
 *
 * @module
 */

import type { Catalogue } from "./catalogue.ts";

/** What was measured on. What was measured on another is not comparable, and never found. */
export interface TunedDevice {
  /** Name of the adapter. */
  readonly adapter: string;
  /** What drives it, with its version. */
  readonly runtime: string;
  /** Version of the driver; empty where it is not known. */
  readonly driver: string;
}

/** One way of computing something, and how long it takes. */
export interface TuningRow {
  /** Digest of what was run: another one is another measurement. */
  readonly code: string;
  /** What is computed. */
  readonly question: string;
  /** Which way. */
  readonly candidate: string;
  /** Seconds of one run. */
  readonly seconds: number;
}

/** What is known of a device. */
export async function readTunings(
  catalogue: Catalogue,
  { adapter, runtime, driver }: TunedDevice,
): Promise<TuningRow[]> {
  return await catalogue.rows<TuningRow>(
    "SELECT code, question, candidate, seconds FROM tunings WHERE adapter = ? AND runtime = ? AND driver = ? " +
      "ORDER BY question, candidate, code",
    [adapter, runtime, driver],
  );
}

/** Enters what was measured on a device, in the place of what was known of the same questions there. */
export async function writeTunings(
  catalogue: Catalogue,
  device: TunedDevice,
  rows: readonly TuningRow[],
): Promise<void> {
  const { adapter, runtime, driver } = device;
  const now = new Date().toISOString();
  await catalogue.transaction(async () => {
    for (const question of new Set(rows.map((row) => row.question))) {
      await catalogue.run(
        "DELETE FROM tunings WHERE adapter = ? AND runtime = ? AND driver = ? AND question = ?",
        [adapter, runtime, driver, question],
      );
    }
    for (const { code, question, candidate, seconds } of rows) {
      await catalogue.run(
        "INSERT INTO tunings VALUES (?, ?, ?, ?, ?, ?, ?, ?::TIMESTAMP)",
        [adapter, runtime, driver, code, question, candidate, seconds, now],
      );
    }
  });
}
