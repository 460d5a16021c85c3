/**
 * Texts of one node by step: lines of JSON that are appended to, in the state folder while the node runs.
 *
 * @module
 */

import { z } from "zod";
import type { SampleSink, StepSample } from "../../stage.ts";

const sampleSchema = z.strictObject({
  step: z.int().min(0),
  /** Place among the samples of the step. */
  index: z.int().min(0),
  prompt: z.string(),
  text: z.string(),
  finish: z.string(),
});

/** One text with its place. */
export type PlacedSample = z.infer<typeof sampleSchema>;

/** Reads lines; one that a kill cut short, or that is something else, is left out. */
export function decodeSamples(text: string): PlacedSample[] {
  return text.split("\n").flatMap((line) => {
    try {
      return sampleSchema.safeParse(JSON.parse(line)).data ?? [];
    } catch {
      return [];
    }
  });
}

const encode = (sample: PlacedSample) => `${JSON.stringify(sample)}\n`;

/** Collects texts, and keeps them across a kill. */
export class SampleTable implements SampleSink {
  readonly #path: () => string;
  readonly #tell: (step: number, sample: StepSample) => void;
  #samples: PlacedSample[] = [];
  /** Whether the file is not what `#samples` says. */
  #rewrite = false;

  /** `path` gives the file, and is asked only when something is written; `tell` is told of each new text. */
  constructor(path: () => string, tell: (step: number, sample: StepSample) => void) {
    this.#path = path;
    this.#tell = tell;
  }

  /** Takes up the file of an earlier attempt. */
  load(text: string): void {
    this.#samples = decodeSamples(text);
    this.#rewrite = this.text() !== text;
  }

  write(step: number, samples: readonly StepSample[]): void {
    this.#add(samples.map(({ prompt, text, finish }, index) => ({
      ...{ step, index, prompt, text, finish },
    })));
    for (const sample of samples) this.#tell(step, sample);
  }

  take(text: string): void {
    this.#add(decodeSamples(text));
  }

  rewind(step: number): void {
    const kept = this.#samples.filter((sample) => sample.step < step);
    if (kept.length === this.#samples.length && !this.#rewrite) return;
    this.#samples = kept;
    this.#replace();
  }

  text(): string {
    return this.#samples.map(encode).join("");
  }

  #add(samples: readonly PlacedSample[]): void {
    if (samples.length === 0) return;
    this.#samples.push(...samples);
    if (this.#rewrite) return this.#replace();
    // Until it is whole, the disk may have a part.
    this.#rewrite = true;
    const path = this.#path();
    Deno.writeTextFileSync(path, samples.map(encode).join(""), { append: true });
    sync(path);
    this.#rewrite = false;
  }

  #replace(): void {
    this.#rewrite = true;
    const path = this.#path();
    Deno.writeTextFileSync(`${path}.new`, this.text());
    sync(`${path}.new`);
    Deno.renameSync(`${path}.new`, path);
    this.#rewrite = false;
  }
}

function sync(path: string): void {
  using file = Deno.openSync(path, { read: true, write: true });
  file.syncDataSync();
}
