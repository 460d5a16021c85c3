/**
 * The tensors of an expanded block in a file.
 *
 * @module
 */

import type { Dtype } from "../../checkpoint/safetensors.ts";
import { packedWords } from "../../ops/compressed/bits.ts";
import { placeBits, storedOfRow } from "../../ops/compressed/forms.ts";
import type { TensorMap } from "../../pretrained/tensor_map.ts";
import type { Architecture } from "../../trunk/architecture.ts";
import { denseOf } from "../calibration.ts";
import type { ValueType } from "../expansion.ts";
import { type DenseMlp, type SiteName, SITES } from "../mlp.ts";
import { componentsOf, type Expansion, type Pruning } from "../options.ts";

/** How all blocks of a model are expanded, as far as their files show it. */
export interface BlockForm {
  readonly expansion: Expansion;
  readonly pruning: Pruning;
  /** Type of weights that are not quantised. */
  readonly values: ValueType;
}

/** A linear layer of an MLP, by the name of its tensors in files. */
export interface Linear {
  readonly name: string;
  readonly outputs: number;
  readonly inputs: number;
}

/** The MLP of a block, by the names of its tensors in files. */
export interface BlockLayout {
  readonly block: number;
  /** Prefix of the routers' tensors. */
  readonly mlp: string;
  readonly activation: DenseMlp["activation"];
  readonly biased: boolean;
  /** Layers of each site, by `gate`, `up` and `down`. */
  readonly sites: Readonly<Record<SiteName, ReadonlyMap<string, Linear>>>;
}

/** A tensor that a block's file must have; a size of its shape that its contents decide is undefined. */
export interface ExpectedTensor {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly (number | undefined)[];
}

/** Parameters that are matrices of an MLP: expanded ones are stored in another form. */
export function isExpanded(parameter: string): boolean {
  return /^layers\.\d+\.ffn\.w_/.test(parameter);
}

/** Tensors that a block's file has: of experts, their grids and routers. */
export function isBlockTensor(name: string): boolean {
  return /\.(experts\.\d+\.(mask|indices|values|level)|scale|zero|router_(in|mid)\.(mean|components|centroids))$/
    .test(name);
}

/** Name of the file of a block. */
export function blockFile(block: number): string {
  return `block-${String(block).padStart(5, "0")}.safetensors`;
}

/**
 * The MLP of a block.
 *
 * @param tensors All parameters of the dense model.
 * @throws {RangeError} If the block's feed-forward is none that can be expanded.
 */
export function blockLayout(
  architecture: Architecture,
  { tensors, block }: { readonly tensors: readonly TensorMap[]; readonly block: number },
): BlockLayout {
  const { activation = "swiglu", biases = false } = denseOf(architecture, block);
  const linear = (layer: string): Linear => {
    const { parts: [part] } = tensors.find(({ name }) =>
      name === `layers.${block}.ffn.w_${layer}`
    )!;
    const [outputs, inputs] = part!.shape as [number, number];
    return { name: part!.name.replace(/\.weight$/, ""), outputs, inputs };
  };
  const named = (layers: readonly string[]) => new Map(layers.map((l) => [l, linear(l)]));
  return {
    block,
    mlp: linear("up").name.replace(/\.[^.]+$/, ""),
    activation: activation === "swiglu" ? activation : activation === "gelu" ? "gelu_tanh" : "gelu",
    biased: biases,
    sites: {
      in: named(activation === "swiglu" ? ["gate", "up"] : ["up"]),
      mid: named(["down"]),
    },
  };
}

/** Inputs of a site. */
export function inputsOf({ sites }: BlockLayout, site: SiteName): number {
  return sites[site].values().next().value!.inputs;
}

/** Every tensor of a block's file. */
export function* expectedTensors(
  layout: BlockLayout,
  { expansion, pruning, values }: BlockForm,
): Generator<ExpectedTensor> {
  const { clusters, pca_factor } = expansion;
  for (const site of SITES) {
    const inputs = inputsOf(layout, site);
    const at = `${layout.mlp}.router_${site}`;
    const f32 = (name: string, shape: number[]) => ({ name, dtype: "F32" as const, shape });
    const components = pca_factor ? componentsOf(inputs, pca_factor) : inputs;
    if (pca_factor) {
      yield f32(`${at}.mean`, [inputs]);
      yield f32(`${at}.components`, [inputs, components]);
    }
    yield f32(`${at}.centroids`, [clusters, components]);
    for (const { name, outputs } of layout.sites[site].values()) {
      if (pruning.bits !== undefined) {
        yield f32(`${name}.scale`, [outputs]);
        yield f32(`${name}.zero`, [outputs]);
      }
      for (let j = 0; j < clusters; j++) {
        yield* expertTensors(`${name}.experts.${j}`, { outputs, inputs, pruning, values });
      }
    }
  }
}

function* expertTensors(
  at: string,
  { outputs, inputs, pruning: { pattern, bits }, values }: {
    readonly outputs: number;
    readonly inputs: number;
    readonly pruning: Pruning;
    readonly values: ValueType;
  },
): Generator<ExpectedTensor> {
  // Without a pattern the mask says how many weights there are.
  let stored: number | undefined;
  if (pattern) {
    const [zeros, group] = pattern;
    const row = storedOfRow({ inputs, zeros, group });
    const width = packedWords(row, placeBits(group));
    yield { name: `${at}.indices`, dtype: "U32", shape: [outputs, width] };
    stored = outputs * (bits === undefined ? row : packedWords(row, bits));
  } else {
    yield { name: `${at}.mask`, dtype: "U32", shape: [outputs, packedWords(inputs, 1)] };
  }
  if (bits !== undefined) yield { name: `${at}.level`, dtype: "U32", shape: [stored] };
  else yield { name: `${at}.values`, dtype: values === "f16" ? "F16" : "F32", shape: [stored] };
}
