/**
 * `--gpu`: whose WebGPU the commands that compute use.
 *
 * @module
 */

import {
  type Arguments,
  type OptionSpec,
  type StageOptions,
  stringArgument,
} from "../../pipeline/command.ts";
import { UserError } from "../../pipeline/errors.ts";
import type { Gpu, Runtime } from "../../model/gpu/device.ts";

/** Values of `--gpu`, the default first. */
export const RUNTIMES: readonly Runtime[] = ["deno", "dawn"];

/** Option of every command that opens a device. */
export const GPU_OPTION: Readonly<Record<string, OptionSpec>> = {
  gpu: {
    choices: RUNTIMES,
    requiresArg: true,
    describe: "WebGPU of Deno, or of Dawn (default: $ETHOS_GPU or deno)",
  },
};

/** {@linkcode GPU_OPTION} for the engine's commands that run stages. */
export const GPU_STAGE_OPTIONS: StageOptions = { options: GPU_OPTION, use: useGpu };

/**
 * The runtime that `given` names, otherwise `ETHOS_GPU`, otherwise Deno's own.
 *
 * @throws {UserError} If the one that counts is neither `deno` nor `dawn`.
 */
export function runtimeOf(given: string | undefined): Runtime {
  const [name, source] = given === undefined
    ? [runtimeFromEnvironment(), "ETHOS_GPU"]
    : [given, "--gpu"];
  const runtime = RUNTIMES.find((runtime) => runtime === name);
  if (runtime !== undefined) return runtime;
  throw new UserError(`${source} is "${name}"; expected deno or dawn.`);
}

function runtimeFromEnvironment(): string {
  const { state } = Deno.permissions.querySync({ name: "env", variable: "ETHOS_GPU" });
  return state === "granted" ? Deno.env.get("ETHOS_GPU") || "deno" : "deno";
}

/**
 * Settles whose WebGPU `sharedGpu` opens, before anything is started.
 *
 * @throws {UserError} If there is no such runtime, or Dawn is asked for and its package doesn't load.
 */
export async function useGpu(args: Arguments): Promise<void> {
  const runtime = runtimeOf(stringArgument(args, "gpu"));
  const { chooseRuntime } = await import("../shared_gpu.ts");
  if (runtime === "dawn") {
    const { importDawn, NoDawnError } = await import("../../model/gpu/open.ts");
    try {
      await importDawn();
    } catch (error) {
      if (!(error instanceof NoDawnError)) throw error;
      throw new UserError(`${error.message}. Without Dawn there is \`--gpu deno\`.`, {
        cause: error,
      });
    }
  }
  chooseRuntime(runtime);
}

/** Opens the device that `--gpu` names; without one, an error that says how to get one. */
export async function commandGpu(args: Arguments): Promise<Gpu> {
  await useGpu(args);
  const [{ sharedGpu }, { NoGpuError }] = await Promise.all([
    import("../shared_gpu.ts"),
    import("../../model/gpu/open.ts"),
  ]);
  try {
    return await sharedGpu();
  } catch (error) {
    if (error instanceof NoGpuError) throw new UserError(error.message, { exitCode: 1 });
    throw error;
  }
}
