/**
 * Dawn's null backend as a WGSL compiler that needs no GPU: tint parses and validates, and Dawn's front end holds a pipeline
 * against WebGPU's default limits (8 storage buffers, 16 KiB of workgroup memory, 256 invocations).
 *
 * Dawn is native code that can take its process down, so it runs in one of its own:
 * this module is also the program of that process (kernels on stdin, findings on stdout, both JSON).
 *
 * @module
 */

/** A kernel as the compiler gets it. */
export interface KernelSource {
  /** Its name in messages. */
  readonly label: string;
  /** WGSL, with the lines that {@linkcode preamble} gives for `dawn`. */
  readonly source: string;
  /** Whether a pipeline is made too, within WebGPU's default limits. The entry point is `main`. */
  readonly pipeline?: boolean;
}

/** The compiler's messages about one kernel. */
interface Finding {
  /** The kernel's label. */
  readonly label: string;
  /** `line:column: message`, or what the pipeline failed on; empty when all is well. */
  readonly messages: readonly string[];
}

/**
 * Compiles kernels with tint in a process of its own. Needs `--allow-run` and `--allow-read`.
 *
 * @returns One finding a kernel, in order.
 * @throws {Error} If the compiler's process fails.
 *
 * @example
 * ```ts
 * import { validateKernels } from "./dawn_null.ts";
 *
 * const [finding] = await validateKernels([{ label: "nothing", source: "fn main( {" }]);
 * console.log(finding?.messages); // [ "1:10: expected ')' for function declaration" ]
 * ```
 */
export async function validateKernels(kernels: readonly KernelSource[]): Promise<Finding[]> {
  const process = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--quiet",
      "--no-check",
      "--allow-ffi",
      "--allow-read",
      "--allow-env",
      import.meta.url,
    ],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const output = process.output();
  const writer = process.stdin.getWriter();
  try {
    await writer.write(new TextEncoder().encode(JSON.stringify(kernels)));
    await writer.close();
  } catch {
    // It died before it had read everything; its exit status says more.
  }
  const { code, signal, stdout, stderr } = await output;
  const text = new TextDecoder().decode(stdout);
  const start = text.lastIndexOf(MARK);
  if (start < 0) {
    const why = new TextDecoder().decode(stderr).trim();
    throw new Error(`Dawn's compiler ended with ${signal ?? `exit code ${code}`}: ${why}`);
  }
  return JSON.parse(text.slice(start + MARK.length));
}

/** Compiles one kernel's text with tint; no messages mean that it is valid. See {@linkcode validateKernels}. */
export async function validateWgsl(source: string): Promise<readonly string[]> {
  const [finding] = await validateKernels([{ label: "kernel", source }]);
  return finding?.messages ?? [];
}

/** Dawn may write to stdout too; findings are what follows. */
const MARK = "\n=== findings ===\n";

/** Dawn corrupts memory once its objects are collected while others are in use. */
const keepAlive: unknown[] = [];

async function validateHere(kernels: readonly KernelSource[]): Promise<Finding[]> {
  // @ts-types="../../types/webgpu.d.ts"
  const { create } = await import("webgpu");
  const gpu = create(["backend=null", "enable-dawn-features=allow_unsafe_apis"]);
  const adapter = await gpu.requestAdapter();
  if (!adapter) throw new Error("Dawn's null backend has no adapter.");
  const device = await adapter.requestDevice({
    requiredFeatures: [...adapter.features] as GPUFeatureName[],
  });
  keepAlive.push(gpu, adapter, device);
  device.addEventListener("uncapturederror", (event) => event.preventDefault());
  const findings: Finding[] = [];
  for (const { label, source, pipeline } of kernels) {
    const module = device.createShaderModule({ label, code: source });
    const info = await module.getCompilationInfo();
    const messages = info.messages.filter(({ type }) => type === "error")
      .map(({ lineNum, linePos, message }) => `${lineNum}:${linePos}: ${message}`);
    if (pipeline && messages.length === 0) {
      try {
        await device.createComputePipelineAsync({
          label,
          layout: "auto",
          compute: { module, entryPoint: "main" },
        });
      } catch (error) {
        messages.push(error instanceof Error ? error.message : String(error));
      }
    }
    findings.push({ label, messages });
  }
  return findings;
}

if (import.meta.main) {
  const kernels = await new Response(Deno.stdin.readable).json() as KernelSource[];
  const findings = await validateHere(kernels);
  await new Blob([MARK, JSON.stringify(findings)]).stream().pipeTo(Deno.stdout.writable);
  // Tearing Dawn down is what most easily crashes; there is nothing left to do.
  Deno.exit(0);
}
