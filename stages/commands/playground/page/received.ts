/**
 * Collects a model from the scripts that hold it.
 *
 * @module
 */

import type { PageModel, PageScripts } from "../page_model.ts";

/** A model that is coming in. */
export class Received implements PageScripts {
  readonly #bytes = new Map<string, Uint8Array<ArrayBuffer>>();
  readonly #changed: () => void;
  #model: PageModel | undefined;
  #total = 0;
  #come = 0;

  /** @param changed Called after each part. */
  constructor(changed: () => void) {
    this.#changed = changed;
  }

  model(model: PageModel): void {
    this.#model = model;
    for (const [name, size] of Object.entries(model.tensors)) {
      this.#bytes.set(name, new Uint8Array(size));
      this.#total += size;
    }
    this.#changed();
  }

  part(tensor: string, offset: number, base64: string): void {
    const bytes = this.#bytes.get(tensor);
    if (bytes === undefined) throw new Error(`There is no tensor ${tensor}`);
    const letters = atob(base64);
    for (let i = 0; i < letters.length; i++) bytes[offset + i] = letters.charCodeAt(i);
    this.#come += letters.length;
    this.#changed();
  }

  /** The part of the weights that is here, from 0 to 1. */
  get progress(): number {
    if (this.#model === undefined) return 0;
    return this.#total === 0 ? 1 : this.#come / this.#total;
  }

  /**
   * The model and its weights by name, which are given away.
   *
   * @throws {Error} If it is not whole yet.
   */
  take(): { readonly model: PageModel; readonly weights: Map<string, Float32Array> } {
    if (this.#model === undefined || this.#come !== this.#total) {
      throw new Error("The model is not whole");
    }
    const weights = new Map(
      this.#bytes.entries().map(([name, { buffer }]) => [name, new Float32Array(buffer)] as const),
    );
    this.#bytes.clear();
    return { model: this.#model, weights };
  }
}
