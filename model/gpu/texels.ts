/**
 * Copies of tensors in textures, for adapters that load numbers from textures faster than from buffers.
 *
 * llvmpipe loads a `vec4` for each lane of a vector register from a storage buffer by 32 loads with a branch each, and from a storage texture by
 * eight loads of 16 bytes and a transpose: a third of the time. A copy is the driver's `memcpy`.
 *
 * @module
 */

import { roundUp, type Tensor } from "./tensor.ts";

/** `vec4`s in a row of a texture: a power of two, so that kernels find row and column by shifting. */
export const TEXELS_ACROSS = 1024;
/** WebGPU's default limit of rows. */
const MAX_ROWS = 8192;
/** Bytes of a `vec4`. */
const BYTES = 16;

/** Whether a tensor's copy fits a texture. */
export function fitsTexels({ dtype, bytes }: Tensor): boolean {
  return dtype === "f32" && bytes <= MAX_ROWS * TEXELS_ACROSS * BYTES;
}

/** An f32 tensor's numbers in a texture, as they were when the plan came to the step that copies them. */
export class Texels {
  /** The tensor that is copied. */
  readonly tensor: Tensor;
  #texture: GPUTexture | undefined;

  /** @throws {TypeError} If the tensor is not f32 or too large for a texture. */
  constructor(tensor: Tensor) {
    if (!fitsTexels(tensor)) {
      throw new TypeError(
        `Tensor ${tensor.name} is ${tensor.dtype} of ${tensor.bytes} bytes; textures hold f32 of ${
          MAX_ROWS * TEXELS_ACROSS * BYTES
        } at most`,
      );
    }
    this.tensor = tensor;
  }

  /** Bytes of the texture that it needs: whole rows. */
  get bytes(): number {
    return roundUp(this.tensor.bytes, TEXELS_ACROSS * BYTES);
  }

  /** The texture. Throws before it was assigned. */
  get texture(): GPUTexture {
    if (!this.#texture) throw new Error(`Tensor ${this.tensor.name} has no texture yet`);
    return this.#texture;
  }

  /** Assigns a texture of at least {@linkcode Texels.bytes}; called once, when the plan is built. */
  place(texture: GPUTexture): void {
    this.#texture = texture;
  }

  /** Encodes the copy. */
  encode(encoder: GPUCommandEncoder): void {
    const { buffer, offset } = this.tensor.memory;
    const texels = this.tensor.bytes / BYTES;
    const rows = Math.floor(texels / TEXELS_ACROSS);
    const bytesPerRow = TEXELS_ACROSS * BYTES;
    const { texture } = this;
    if (rows > 0) {
      encoder.copyBufferToTexture(
        { buffer, offset, bytesPerRow },
        { texture },
        [TEXELS_ACROSS, rows],
      );
    }
    const rest = texels % TEXELS_ACROSS;
    if (rest > 0) {
      encoder.copyBufferToTexture(
        { buffer, offset: offset + rows * bytesPerRow, bytesPerRow },
        { texture, origin: [0, rows] },
        [rest, 1],
      );
    }
  }
}

/** Makes a texture for copies of so many bytes, a multiple of a row's. */
export function createTexels(device: GPUDevice, label: string, bytes: number): GPUTexture {
  return device.createTexture({
    label,
    size: [TEXELS_ACROSS, bytes / (TEXELS_ACROSS * BYTES)],
    format: "rgba32float",
    usage: GPUTextureUsage.STORAGE_BINDING | GPUTextureUsage.COPY_DST,
  });
}
