/**
 * What an adapter is called.
 *
 * @module
 */

/** What WebGPU says of an adapter. */
export type AdapterNames = Pick<
  GPUAdapterInfo,
  "vendor" | "architecture" | "device" | "description"
>;

/** Where NVIDIA's kernel module on Linux has a folder for each of its GPUs. */
const NVIDIA_GPUS = "/proc/driver/nvidia/gpus";

/**
 * A name for people: `NVIDIA H200`. Dawn describes NVIDIA's GPUs by their driver (`NVIDIA: 580.159.04 580.159.4.0`); on Linux the
 * driver knows what they are.
 *
 * @param models Names of the GPUs that NVIDIA's driver runs.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { adapterName } from "./adapter_name.ts";
 *
 * const dawn = {
 *   vendor: "nvidia",
 *   architecture: "",
 *   device: "",
 *   description: "NVIDIA: 580.159.04 580.159.4.0",
 * };
 * assertEquals(await adapterName(dawn, () => ["NVIDIA H200", "NVIDIA H200"]), "NVIDIA H200");
 * ```
 */
export async function adapterName(
  { vendor, architecture, device, description }: AdapterNames,
  models: () => readonly string[] | Promise<readonly string[]> = nvidiaModels,
): Promise<string> {
  if (/^NVIDIA: [\d. ]+$/.test(description)) {
    // Of several kinds of GPUs nothing says which one this is.
    const [name, ...others] = new Set(await models());
    if (name !== undefined && others.length === 0) return name;
  }
  return description || [vendor, architecture, device].filter(Boolean).join(" ");
}

/** What NVIDIA's kernel module says of its GPUs; empty where it is not there, or must not be asked. */
async function nvidiaModels(): Promise<string[]> {
  const models: string[] = [];
  try {
    for await (const { name } of Deno.readDir(NVIDIA_GPUS)) {
      const text = await Deno.readTextFile(`${NVIDIA_GPUS}/${name}/information`);
      const model = modelOf(text);
      if (model !== undefined) models.push(model);
    }
  } catch {
    return [];
  }
  return models;
}

/** The model in a GPU's `information`: `Model: 		 NVIDIA H200`. */
export function modelOf(information: string): string | undefined {
  return /^Model:\s*(\S.*?)\s*$/m.exec(information)?.[1];
}
