/**
 * The file of an expanded block: routers, grids and experts, written as they are run and checked when they are read.
 *
 * @module
 */

import { SafetensorsFile, type TensorSource } from "../../checkpoint/safetensors.ts";
import { unpackRun } from "../../ops/compressed/bits.ts";
import {
  checkCompressed,
  type CompressedMatrix,
  type LevelGrid,
  storedCounts,
  type StoredValues,
} from "../../ops/compressed/forms.ts";
import { firstWords, forEachStored } from "../../ops/compressed/pack.ts";
import { PretrainedError } from "../../pretrained/error.ts";
import type { StoredLayer, StoredSite } from "../expansion.ts";
import { type MlpBiases, type SiteName, SITES, type StoredMlp } from "../mlp.ts";
import { levelsOf } from "../options.ts";
import type { RouterValues } from "../routing/router.ts";
import {
  type BlockForm,
  type BlockLayout,
  type ExpectedTensor,
  expectedTensors,
  inputsOf,
  type Linear,
} from "./layout.ts";

/** The tensors of a block, in the form of its file. */
export function blockTensors(
  { sites }: StoredMlp,
  { layout, form }: { readonly layout: BlockLayout; readonly form: BlockForm },
): TensorSource[] {
  const arrays = new Map<string, ArrayBufferView & ArrayLike<number>>();
  for (const site of SITES) {
    const { router, layers } = sites[site];
    const at = `${layout.mlp}.router_${site}`;
    if (router.pca) {
      arrays.set(`${at}.mean`, router.pca.mean).set(`${at}.components`, router.pca.components);
    }
    arrays.set(`${at}.centroids`, router.centroids);
    for (const [layer, { name }] of layout.sites[site]) {
      const { grid, experts } = layers[layer]!;
      if (grid) arrays.set(`${name}.scale`, grid.scale).set(`${name}.zero`, grid.zero);
      for (const [j, matrix] of experts.entries()) {
        const at = `${name}.experts.${j}`;
        const { values } = matrix;
        if (matrix.form === "pattern") arrays.set(`${at}.indices`, matrix.places);
        else arrays.set(`${at}.mask`, matrix.mask);
        if (values.kind === "levels") arrays.set(`${at}.level`, values.words);
        else arrays.set(`${at}.values`, values.numbers);
      }
    }
  }
  return Array.from(expectedTensors(layout, form), ({ name, dtype, shape }) => {
    const data = arrays.get(name)!;
    return { name, dtype, shape: shape.map((size) => size ?? data.length), data };
  });
}

/**
 * Checks names, types and shapes in the header of a block's file.
 *
 * @throws {PretrainedError} Naming file and tensor.
 */
export function checkBlockHeader(
  file: SafetensorsFile,
  path: string,
  { layout, form }: { readonly layout: BlockLayout; readonly form: BlockForm },
): void {
  const left = new Set(file.tensors.keys());
  for (const expected of expectedTensors(layout, form)) {
    const { name, dtype, shape } = expected;
    const found = file.tensors.get(name);
    if (!found) throw new PretrainedError(`${path} has no tensor ${name}`);
    left.delete(name);
    const fits = found.dtype === dtype && found.shape.length === shape.length &&
      shape.every((size, i) => size === undefined || size === found.shape[i]);
    if (fits) continue;
    throw new PretrainedError(
      `${path}: tensor ${name} is ${found.dtype} [${found.shape.join(", ")}], expected ${
        shownShape(expected)
      }`,
    );
  }
  for (const name of left) {
    throw new PretrainedError(
      `${path} has the tensor ${name}, which is none of block ${layout.block}`,
    );
  }
}

function shownShape({ dtype, shape }: ExpectedTensor): string {
  return `${dtype} [${shape.map((size) => size ?? "as many as its mask says").join(", ")}]`;
}

/**
 * Reads a block and checks all of it: names, types, shapes, the weights that masks count, places, levels, and that numbers are finite.
 *
 * @param biases Those of the MLP, which the file does not hold.
 * @throws {PretrainedError} Naming file and tensor.
 */
export async function readBlock(
  path: string,
  { layout, form, biases }: {
    readonly layout: BlockLayout;
    readonly form: BlockForm;
    readonly biases?: MlpBiases | undefined;
  },
): Promise<StoredMlp> {
  using file = await opened(path);
  checkBlockHeader(file, path, { layout, form });
  const reader = new BlockReader(file, path, form);
  const site = async (name: SiteName): Promise<StoredSite> => {
    const layers: Record<string, StoredLayer> = {};
    for (const [layer, linear] of layout.sites[name]) layers[layer] = await reader.layer(linear);
    const inputs = inputsOf(layout, name);
    return { router: await reader.router(`${layout.mlp}.router_${name}`, inputs), layers };
  };
  return {
    activation: layout.activation,
    biases,
    sites: { in: await site("in"), mid: await site("mid") },
  };
}

async function opened(path: string): Promise<SafetensorsFile> {
  try {
    return await SafetensorsFile.open(path);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new PretrainedError(`${path} can't be read: ${why}`, { cause });
  }
}

/** Reads the parts of a block. */
class BlockReader {
  readonly #file: SafetensorsFile;
  readonly #path: string;
  readonly #form: BlockForm;

  constructor(file: SafetensorsFile, path: string, form: BlockForm) {
    this.#file = file;
    this.#path = path;
    this.#form = form;
  }

  async router(at: string, width: number): Promise<RouterValues> {
    const { clusters, pca_factor } = this.#form.expansion;
    const pca = pca_factor
      ? {
        mean: await this.#floats(`${at}.mean`),
        components: await this.#floats(`${at}.components`),
      }
      : undefined;
    return { width, pca, centroids: await this.#floats(`${at}.centroids`), clusters };
  }

  async layer({ name, outputs, inputs }: Linear): Promise<StoredLayer> {
    const { pruning, expansion } = this.#form;
    let grid: LevelGrid | undefined;
    if (pruning.bits !== undefined) {
      const { lowest } = levelsOf({ bits: pruning.bits, symmetric: pruning.symmetric });
      const scale = await this.#floats(`${name}.scale`);
      grid = { scale, zero: await this.#floats(`${name}.zero`), lowest };
    }
    const experts: CompressedMatrix[] = [];
    for (let j = 0; j < expansion.clusters; j++) {
      experts.push(await this.#expert(`${name}.experts.${j}`, { outputs, inputs }));
    }
    return { outputs, inputs, grid, experts };
  }

  async #expert(
    at: string,
    sizes: { readonly outputs: number; readonly inputs: number },
  ): Promise<CompressedMatrix> {
    const { pattern, bits } = this.#form.pruning;
    const values: StoredValues = bits === undefined
      ? await this.#values(`${at}.values`)
      : { kind: "levels", bits, words: await this.#words(`${at}.level`) };
    const matrix: CompressedMatrix = pattern
      ? {
        ...{ form: "pattern", ...sizes, zeros: pattern[0], group: pattern[1], values },
        places: await this.#words(`${at}.indices`),
      }
      : { form: "mask", ...sizes, values, mask: await this.#words(`${at}.mask`) };
    try {
      checkCompressed(matrix, at);
    } catch (cause) {
      if (!(cause instanceof RangeError)) throw cause;
      throw new PretrainedError(`${this.#path}: tensors ${cause.message}`, { cause });
    }
    this.#checkLevels(matrix, at);
    return matrix;
  }

  /** A symmetric grid has one level less than its bits can say. */
  #checkLevels(matrix: CompressedMatrix, at: string): void {
    const { bits, symmetric } = this.#form.pruning;
    const { values } = matrix;
    if (values.kind !== "levels" || bits === undefined) return;
    const { lowest, highest } = levelsOf({ bits, symmetric });
    const most = highest - lowest;
    if (most === 2 ** bits - 1) return;
    const counts = storedCounts(matrix);
    const firsts = firstWords(counts, bits);
    const codes = new Uint8Array(matrix.inputs);
    for (const [row, count] of counts.entries()) {
      unpackRun(values.words, { first: firsts[row]!, count, bits }, { numbers: codes });
      for (let e = 0; e < count; e++) {
        if (codes[e]! <= most) continue;
        let input = 0;
        forEachStored(matrix, (r, i, column) => void (r === row && i === e && (input = column)));
        throw new PretrainedError(
          `${this.#path}: tensor ${at}.level has the level ${
            codes[e]! + lowest
          } in row ${row}, input ${input}; expected ${lowest} to ${highest}`,
        );
      }
    }
  }

  async #words(name: string): Promise<Uint32Array<ArrayBuffer>> {
    return (await this.#file.read(name)).data as Uint32Array<ArrayBuffer>;
  }

  async #values(name: string): Promise<StoredValues> {
    const { data } = await this.#file.read(name);
    this.#checkFinite(name, data as Float32Array | Float16Array);
    return data instanceof Float16Array
      ? { kind: "f16", numbers: data }
      : { kind: "f32", numbers: data as Float32Array };
  }

  async #floats(name: string): Promise<Float32Array<ArrayBuffer>> {
    const data = (await this.#file.read(name)).data as Float32Array<ArrayBuffer>;
    this.#checkFinite(name, data);
    return data;
  }

  #checkFinite(name: string, values: Float32Array | Float16Array): void {
    for (let i = 0; i < values.length; i++) {
      if (Number.isFinite(values[i]!)) continue;
      throw new PretrainedError(
        `${this.#path}: tensor ${name} has ${values[i]} at [${i}]; expected finite numbers`,
      );
    }
  }
}
