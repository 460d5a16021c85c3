/**
 * Texts that models in training wrote: those of a published node from its files, those of a running one from its state folder.
 *
 * @module
 */

import { join } from "@std/path";
import { SAMPLES_FILE } from "../stage.ts";
import { statOrUndefined } from "../store/files.ts";
import type { ObjectStore } from "../store/objects.ts";
import type { NodeRecord, Records } from "../store/records/records.ts";
import { decodeSamples, type PlacedSample } from "../store/series/samples.ts";

/** Texts of one step. */
export interface StepTexts {
  readonly step: number;
  readonly samples: readonly Omit<PlacedSample, "step">[];
}

/** Files that are kept as they were read. */
const KEPT = 16;

/** Reads samples, and keeps those that were read last. */
export class Samples {
  readonly #dir: string;
  readonly #parts: { readonly records: Records; readonly objects: ObjectStore };
  /** Steps, the newest first, by what was read, in the order of their last use. */
  readonly #read = new Map<string, readonly StepTexts[]>();

  /** `dir` is the store. */
  constructor(dir: string, parts: { records: Records; objects: ObjectStore }) {
    this.#dir = dir;
    this.#parts = parts;
  }

  /** The steps of a node at which texts were written, the newest first; none where it writes none. */
  async read(key: string): Promise<readonly StepTexts[]> {
    const record = await this.#parts.records.readNode(key);
    const path = record === undefined
      ? join(this.#dir, "state", key, SAMPLES_FILE)
      : this.#published(record);
    const stat = path === undefined ? undefined : await statOrUndefined(path);
    if (path === undefined || stat === undefined) return [];
    // A rewind puts another file in the place of the one that was read.
    const id = `${path} ${stat.ino} ${stat.size}`;
    const steps = this.#read.get(id) ?? await this.#parse(path);
    this.#read.delete(id);
    this.#read.set(id, steps);
    for (const oldest of this.#read.keys()) {
      if (this.#read.size <= KEPT) break;
      this.#read.delete(oldest);
    }
    return steps;
  }

  #published(record: NodeRecord): string | undefined {
    for (const output of Object.values(record.outputs)) {
      if (output.kind !== "directory") continue;
      const file = output.files.find(({ path }) => path === SAMPLES_FILE);
      if (file !== undefined) return this.#parts.objects.path(file.sha256);
    }
  }

  async #parse(path: string): Promise<readonly StepTexts[]> {
    let text: string;
    try {
      text = await Deno.readTextFile(path);
    } catch (error) {
      // The node has been published meanwhile, or its object was removed.
      if (error instanceof Deno.errors.NotFound) return [];
      throw error;
    }
    const steps = new Map<number, Map<number, Omit<PlacedSample, "step">>>();
    for (const { step, ...sample } of decodeSamples(text)) {
      const of = steps.get(step) ?? new Map();
      steps.set(step, of.set(sample.index, sample));
    }
    return [...steps]
      .map(([step, of]) => ({ step, samples: [...of.values()].sort((a, b) => a.index - b.index) }))
      .sort((a, b) => b.step - a.step);
  }
}
