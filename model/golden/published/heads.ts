/**
 * Published models of golden files whose heads are of a width that attention does not compute, as equal models of wider heads.
 *
 * The further columns of queries, keys and values are zero, and only the file's own columns turn with the position. The scores are divided by the root of the wider
 * width, so queries are larger by as much.
 *
 * @module
 */

import { roundUp } from "../../gpu/tensor.ts";
import { readPretrainedConfig } from "../../pretrained/config.ts";
import type { PretrainedConfig } from "../../pretrained/family.ts";
import type { GoldenTensor } from "../case.ts";

/** Widths of heads that attention computes are multiples of this. */
const MULTIPLE = 4;

/** A tensor of the attention of a Llama: the rows of queries, keys and values, and the columns of the output, belong to heads. */
const BY_HEAD = /\.self_attn\.([qkvo])_proj\.(weight|bias)$/;

/** The width of a file's heads, and of the ones that are computed. */
export interface HeadWidths {
  readonly own: number;
  readonly wide: number;
}

/** A published model of a golden file. */
export interface WidenedModel {
  readonly published: PretrainedConfig;
  /** The shape in the file of a tensor of `published`. */
  shapeOf(name: string, shape: readonly number[]): readonly number[];
  /** A tensor of the file as `published` has it; the name is that of the checkpoint. */
  widen(name: string, tensor: GoldenTensor): GoldenTensor;
}

/** The widths of a Llama's heads, if they are none that attention computes. */
function widthsOf(model: Readonly<Record<string, unknown>>): HeadWidths | undefined {
  const { model_type, hidden_size, num_attention_heads, head_dim } = model;
  const own = Number(head_dim ?? Number(hidden_size) / Number(num_attention_heads));
  if (model_type !== "llama" || !Number.isInteger(own) || own % 2 !== 0) return undefined;
  return own % MULTIPLE === 0 ? undefined : { own, wide: roundUp(own, MULTIPLE) };
}

/** Copies rows of heads, or columns of heads, into wider ones, times `scale`. */
function spread(
  { shape, data, whole }: GoldenTensor,
  { axis, own, wide, scale }: HeadWidths & { axis: number; scale: number },
): GoldenTensor {
  const wider = shape.map((n, i) => i === axis ? n / own * wide : n);
  const out = new Float64Array(wider.reduce((product, n) => product * n, 1));
  // Numbers that follow one another within an index of the axis.
  const inner = shape.slice(axis + 1).reduce((product, n) => product * n, 1);
  data.forEach((value, i) => {
    const [index, at] = [Math.floor(i / inner), i % inner];
    out[(Math.floor(index / own) * wide + index % own) * inner + at] = value * scale;
  });
  return { shape: wider, data: out, whole };
}

/**
 * Reads the `config.json` of a golden file, with wider heads where its own can't be computed.
 *
 * @throws {PretrainedError} Naming a key that is missing, wrong or not supported.
 */
export function readWidened(model: Readonly<Record<string, unknown>>): WidenedModel {
  const widths = widthsOf(model);
  if (!widths) {
    const published = readPretrainedConfig(model);
    return { published, shapeOf: (_, shape) => shape, widen: (_, tensor) => tensor };
  }
  const { own, wide } = widths;
  const read = readPretrainedConfig({ ...model, head_dim: wide });
  const attention = { ...read.model.attention, d_rope: own } as typeof read.model.attention;
  const axisOf = (name: string) => {
    const part = BY_HEAD.exec(name);
    if (!part || (part[1] === "o" && part[2] === "bias")) return undefined;
    return part[1] === "o" ? 1 : 0;
  };
  return {
    published: { ...read, model: { ...read.model, attention } },
    shapeOf(name, shape) {
      const axis = axisOf(name);
      return shape.map((n, i) => i === axis ? n / wide * own : n);
    },
    widen(name, tensor) {
      const axis = axisOf(name);
      const scale = name.includes(".q_proj.") ? Math.sqrt(wide / own) : 1;
      return axis === undefined ? tensor : spread(tensor, { axis, own, wide, scale });
    },
  };
}
