/**
 * Kernels: WGSL with Jinja markup, the declarations that the recorded call implies, and a cache of pipelines.
 *
 * A `.wgsl` file holds the body of a kernel. Its bindings and its parameters are declared here from what the
 * operation passes, so the two cannot disagree:
 *
 * - `params: {rows: 3, epsilon: f32(1e-6)}` becomes `params.rows` (u32) and `params.epsilon` (f32), a uniform;
 * - `bindings: {x: read(tensor)}` becomes `x`, an array of `vec4`s, with `load_x(i) -> vec4f` and, when written,
 *   `store_x(i, vec4f)`, whatever the tensor's type;
 * - `bindings: {control: readFields(tensor, ["scale", "step"])}` becomes a struct, `control.scale` and `control.step`, or an array of
 *   structs where the tensor has rows;
 * - `constants: {ROWS: 8}` are visible to Jinja and, when they are numbers or booleans, to WGSL as `const`.
 *
 * @module
 */

import { preamble } from "./capabilities.ts";
import type { Gpu } from "./device.ts";
import { renderTemplate, type TemplateValues } from "./template.ts";
import type { Tensor } from "./tensor.ts";
import { type Texels, TEXELS_ACROSS } from "./texels.ts";

/** How a kernel uses a tensor. */
export interface Binding {
  /** The tensor that is bound. */
  readonly tensor: Tensor;
  /** `write` means that every element that is later read gets written; `update` reads and writes. */
  readonly access: "read" | "write" | "update";
  /** Elements per array entry: 4 for `vec4`s, 1 for scalars; of halves as bits 4 for `vec2u`s, 8 for `vec4u`s. */
  readonly lanes: 1 | 4 | 8;
  /** Declared as `atomic<u32>`, or as words that hold the bits of two halves each. */
  readonly as?: "atomic" | "bits";
  /** `vec4`s that all invocations of the dispatch load together: a wish for a copy that loads faster (`copies.ts`). */
  readonly loads?: number;
  /** The copy that is bound in the tensor's place, as a texture. */
  readonly copy?: Texels;
  /** Declared as a struct of f32 with these members. */
  readonly fields?: readonly string[];
}

const binding = (
  tensor: Tensor,
  access: Binding["access"],
  lanes: Binding["lanes"],
  as?: Binding["as"],
): Binding => ({ tensor, access, lanes, ...(as && { as }) });

/** Reads a tensor as `vec4`s. */
export const read = (tensor: Tensor): Binding => binding(tensor, "read", 4);
/** Writes every element of a tensor as `vec4`s. */
export const write = (tensor: Tensor): Binding => binding(tensor, "write", 4);
/** Reads a tensor as `vec4`s, so many in all invocations together that a copy in a texture may pay: see `copies.ts`. */
export const readOften = (tensor: Tensor, loads: number): Binding => ({ ...read(tensor), loads });
/** Reads the bits of an f16 tensor, so many halves at a time, as `vec2u`s or `vec4u`s, which have no `load_`. */
export const readBits = (tensor: Tensor, lanes: 4 | 8 = 8): Binding =>
  binding(tensor, "read", lanes, "bits");
/** Reads a tensor as `vec4`s, or by a kernel's own loads of so many numbers, which take halves as bits. */
export const loading = (tensor: Tensor, lanes?: 4 | 8): Binding =>
  lanes && tensor.dtype === "f16" ? readBits(tensor, lanes) : read(tensor);
/** Writes an f16 tensor as `vec4u`s, the bits of eight halves each, which have no `store_`. */
export const writeBits = (tensor: Tensor): Binding => binding(tensor, "write", 8, "bits");
/** Reads and writes a tensor as `vec4`s. */
export const update = (tensor: Tensor): Binding => binding(tensor, "update", 4);
/** Reads a tensor element by element. Not for f16. */
export const readScalar = (tensor: Tensor): Binding => binding(tensor, "read", 1);
/** Writes a tensor element by element. Not for f16. */
export const writeScalar = (tensor: Tensor): Binding => binding(tensor, "write", 1);
/** Reads and writes a tensor element by element. Not for f16. */
export const updateScalar = (tensor: Tensor): Binding => binding(tensor, "update", 1);
/** Reads a tensor by the names of the numbers in a row. */
export const readFields = (tensor: Tensor, fields: readonly string[]): Binding => ({
  ...readScalar(tensor),
  fields,
});
/** Reads and writes a tensor by the names of the numbers in a row. */
export const updateFields = (tensor: Tensor, fields: readonly string[]): Binding => ({
  ...updateScalar(tensor),
  fields,
});
/** Integer atomics on a tensor. Counts only: sums of integers do not depend on their order. */
export const atomic = (tensor: Tensor): Binding => binding(tensor, "update", 1, "atomic");

/** A parameter that is a float rather than a whole number. */
interface Float {
  /** The number; the kernel gets the nearest f32. */
  readonly float: number;
}

/** Marks a parameter as f32. */
export const f32 = (float: number): Float => ({ float });

/** Parameters of a call, in the order of the uniform's fields. */
type Params = Readonly<Record<string, number | Float>>;

/** Values that choose a variant of a kernel. */
export type Constants = TemplateValues;

/** One call of a kernel. */
export interface Call {
  /** The name that the profiler and the memory report show: `layers.3.attn.scores`. */
  readonly label: string;
  /** The kernel's file name without its ending, for messages. */
  readonly name: string;
  /** Text of the `.wgsl` file, after any library files that it needs. */
  readonly source: string;
  /** Chooses a variant; each combination is compiled once. */
  readonly constants?: Constants;
  /** Sizes and other numbers of this call, a uniform. */
  readonly params?: Params;
  /** Tensors by the names that the kernel gives them. */
  readonly bindings: Readonly<Record<string, Binding>>;
  /** Workgroups, at most 65,535 an axis: see {@linkcode grid}. */
  readonly workgroups: readonly [number, number, number];
  /** Floating-point operations, for the roofline; 0 when it does none worth counting. */
  readonly flops?: number;
  /** Bytes that it must move; defaults to the size of everything bound. */
  readonly bytes?: number;
}

/** WebGPU's default limit of workgroups along an axis. */
const MAX_WORKGROUPS = 65535;

/**
 * Spreads `count` workgroups over two axes. Kernels recover the number with `workgroup_number(wid, count)`, and must
 * return when it is not below the count that they were given.
 */
export function grid(count: number): [number, number, number] {
  if (count <= MAX_WORKGROUPS) return [Math.max(1, count), 1, 1];
  const y = Math.ceil(count / MAX_WORKGROUPS);
  return [Math.ceil(count / y), y, 1];
}

const LIBRARY = /* wgsl */ `
fn workgroup_number(id: vec3u, count: vec3u) -> u32 { return id.x + id.y * count.x; }
`;

/** The text of a kernel as the compiler gets it: the same string for calls that have the same. */
export function renderKernel(gpu: Gpu, call: Call): string {
  const constants = call.constants ?? {};
  const lines: string[] = [];
  const bindings = Object.entries(call.bindings);
  const halves = bindings.some(([, b]) => b.tensor.dtype === "f16");
  const native = gpu.capabilities.f16;
  lines.push(preamble(gpu, {
    f16: (halves && native) || constants["F16"] === true,
    subgroups: constants["SUBGROUPS"] === true,
    subgroup_matrix: constants["SUBGROUP_MATRIX"] === true,
  }));
  for (const [name, value] of Object.entries(constants)) {
    if (typeof value === "boolean") lines.push(`const ${name} = ${value};`);
    else if (typeof value === "number") {
      lines.push(`const ${name} = ${value}${Number.isInteger(value) ? "u" : "f"};`);
    }
  }
  const params = Object.entries(call.params ?? {});
  let slot = 0;
  if (params.length > 0) {
    const fields = params.map(([name, value]) =>
      `  ${name}: ${typeof value === "number" ? "u32" : "f32"},`
    );
    lines.push("struct Params {", ...fields, "}");
    lines.push(`@group(0) @binding(${slot++}) var<uniform> params: Params;`);
  }
  for (const [name, b] of bindings) lines.push(...declare(name, b, slot++, native));
  lines.push(LIBRARY);
  return renderTemplate(call.source, { values: constants, head: lines.join("\n") });
}

/** Declares one binding with its accessors. */
function declare(name: string, b: Binding, slot: number, native: boolean): string[] {
  const access = b.access === "read" ? "read" : "read_write";
  const variable = `@group(0) @binding(${slot}) var<storage, ${access}> ${name}`;
  const lines = [];
  const { dtype } = b.tensor;
  if (dtype === "f16" && b.lanes === 1) {
    throw new TypeError(`Tensor ${b.tensor.name} is f16, which kernels bind as vec4s only`);
  }
  if (b.copy) {
    return [
      `@group(0) @binding(${slot}) var ${name}: texture_storage_2d<rgba32float, read>;`,
      `fn load_${name}(entry_: u32) -> vec4f { return textureLoad(${name}, vec2u(entry_ % ${TEXELS_ACROSS}u, entry_ / ${TEXELS_ACROSS}u)); }`,
    ];
  }
  if (b.as === "bits" && dtype !== "f16") {
    throw new TypeError(`Tensor ${b.tensor.name} is ${dtype}; only f16 is bound as bits`);
  }
  if (b.fields) return declareFields({ name, variable }, b.tensor, b.fields);
  const element = b.as === "bits"
    ? `vec${b.lanes / 2}u`
    : b.as === "atomic"
    ? "atomic<u32>"
    : b.lanes === 1
    ? dtype
    : dtype === "f16"
    ? (native ? "vec4<f16>" : "vec2u")
    : `vec4<${dtype}>`;
  lines.push(`${variable}: array<${element}>;`);
  if (dtype === "u32" || b.lanes !== 4 || b.as) return lines;
  // Named so that no binding's name hides them.
  const at = `${name}[entry_]`;
  const load = dtype === "f32"
    ? at
    : native
    ? `vec4f(${at})`
    : `vec4f(unpack2x16float(${at}.x), unpack2x16float(${at}.y))`;
  lines.push(`fn load_${name}(entry_: u32) -> vec4f { return ${load}; }`);
  if (b.access !== "read") {
    const value = dtype === "f32"
      ? "value_"
      : native
      ? "vec4<f16>(value_)"
      : "vec2u(pack2x16float(value_.xy), pack2x16float(value_.zw))";
    lines.push(`fn store_${name}(entry_: u32, value_: vec4f) { ${at} = ${value}; }`);
  }
  return lines;
}

/** Declares a struct, and a binding that is one or, where the tensor has rows, an array of them. */
function declareFields(
  { name, variable }: { name: string; variable: string },
  tensor: Tensor,
  fields: readonly string[],
): string[] {
  if (tensor.dtype !== "f32" || tensor.width !== fields.length) {
    throw new TypeError(
      `Tensor ${tensor.name} is ${tensor.dtype} [${
        tensor.shape.join(", ")
      }], expected f32 with rows of ${fields.length} (${fields.join(", ")})`,
    );
  }
  const struct = name[0]!.toUpperCase() + name.slice(1);
  return [
    `struct ${struct} {`,
    ...fields.map((field) => `  ${field}: f32,`),
    "}",
    `${variable}: ${tensor.shape.length === 1 ? struct : `array<${struct}>`};`,
  ];
}

/** Bytes of a call's uniform. */
export function encodeParams(params: Params): Uint8Array<ArrayBuffer> {
  const values = Object.values(params);
  const bytes = new Uint8Array(Math.ceil(values.length / 4) * 16);
  const view = new DataView(bytes.buffer);
  values.forEach((value, i) => {
    if (typeof value === "number") {
      if (!Number.isInteger(value) || value < 0 || value > 0xffffffff) {
        throw new RangeError(`Parameter ${Object.keys(params)[i]} is ${value}, not a u32`);
      }
      view.setUint32(i * 4, value, true);
    } else view.setFloat32(i * 4, value.float, true);
  });
  return bytes;
}

/** Compiles each distinct kernel text once for a device. */
export class PipelineCache {
  readonly #gpu: Gpu;
  readonly #pipelines = new Map<string, Promise<GPUComputePipeline>>();

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
  }

  /** The cache that belongs to a device. */
  static of(gpu: Gpu): PipelineCache {
    let cache = caches.get(gpu);
    if (!cache) caches.set(gpu, cache = new PipelineCache(gpu));
    return cache;
  }

  /** Distinct kernel texts so far, with a label each: what the compilers are tested on. */
  get sources(): ReadonlyMap<string, Promise<GPUComputePipeline>> {
    return this.#pipelines;
  }

  /** The pipeline of a call. Rejects with the compiler's messages and the numbered source. */
  get(call: Call): Promise<GPUComputePipeline> {
    const source = renderKernel(this.#gpu, call);
    let pipeline = this.#pipelines.get(source);
    if (!pipeline) this.#pipelines.set(source, pipeline = this.#compile(call, source));
    return pipeline;
  }

  #layout(call: Call): GPUBindGroupLayout {
    type Resource = Omit<GPUBindGroupLayoutEntry, "binding" | "visibility">;
    const resources: Resource[] = Object.values(call.bindings).map((b) =>
      b.copy
        ? { storageTexture: { access: "read-only", format: "rgba32float" } }
        : { buffer: { type: b.access === "read" ? "read-only-storage" : "storage" } }
    );
    if (Object.keys(call.params ?? {}).length > 0) {
      resources.unshift({ buffer: { type: "uniform" } });
    }
    return this.#gpu.device.createBindGroupLayout({
      label: call.name,
      entries: resources.map((resource, slot) => ({
        binding: slot,
        visibility: GPUShaderStage.COMPUTE,
        ...resource,
      })),
    });
  }

  async #compile(call: Call, code: string): Promise<GPUComputePipeline> {
    const { device } = this.#gpu;
    try {
      return await this.#gpu.attempt(
        `Kernel ${call.name} of ${call.label}`,
        () => {
          const descriptor: GPUComputePipelineDescriptor = {
            label: call.label,
            // Explicit, since "auto" would drop a binding that a variant does not touch.
            layout: device.createPipelineLayout({ bindGroupLayouts: [this.#layout(call)] }),
            compute: {
              module: device.createShaderModule({ label: call.name, code }),
              entryPoint: "main",
            },
          };
          return device.createComputePipelineAsync(descriptor);
        },
      );
    } catch (cause) {
      const message = cause instanceof Error ? cause.message : String(cause);
      throw new Error(`${message}\n${numbered(code)}`, { cause });
    }
  }
}

const caches = new WeakMap<Gpu, PipelineCache>();

function numbered(code: string): string {
  return code.split("\n").map((line, i) => `${String(i + 1).padStart(4)}  ${line}`).join("\n");
}
