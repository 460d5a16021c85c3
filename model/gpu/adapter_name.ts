/**
 * The name of an adapter.
 *
 * @module
 */

/** The names that WebGPU gives an adapter. */
type AdapterNames = Pick<
  GPUAdapterInfo,
  "vendor" | "architecture" | "device" | "description"
>;

/** How Dawn describes NVIDIA's GPUs: by the driver, whose version stands first. */
const DRIVER = /^NVIDIA: ([\d.]+)[\d. ]*$/;

/**
 * A name for people: `NVIDIA H200`. Dawn describes NVIDIA's GPUs by their driver (`NVIDIA: 580.159.04 580.159.4.0`), Deno's own
 * WebGPU by what they are.
 *
 * @param other The name that Deno's WebGPU has for the adapter that it would take.
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
 * assertEquals(await adapterName(dawn, () => "NVIDIA H200"), "NVIDIA H200");
 * ```
 */
export async function adapterName(
  { vendor, architecture, device, description }: AdapterNames,
  other: () => Promise<string> | string = askDeno,
): Promise<string> {
  if (DRIVER.test(description)) {
    const name = await other();
    // The two may prefer different GPUs of one machine, but hardly two of one vendor's.
    if (name.startsWith("NVIDIA ")) return name;
  }
  return description || [vendor, architecture, device].filter(Boolean).join(" ");
}

/**
 * The driver's version that Dawn puts in place of a GPU's name, as `NVIDIA 580.159.04`.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { driverOf } from "./adapter_name.ts";
 *
 * assertEquals(driverOf("NVIDIA: 580.159.04 580.159.4.0"), "NVIDIA 580.159.04");
 * assertEquals(driverOf("NVIDIA H200"), undefined);
 * ```
 */
export function driverOf(description: string): string | undefined {
  const version = DRIVER.exec(description)?.[1];
  return version === undefined ? undefined : `NVIDIA ${version}`;
}

// Files of the kernel know the names too, but Deno reads /proc only with every permission.
async function askDeno(): Promise<string> {
  const adapter = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" });
  return adapter?.info.description ?? "";
}
