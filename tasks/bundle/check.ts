/** A bundle is unpacked as its user would, and run without network, in an empty home and with an empty cache. */

import { join } from "@std/path";
import { read, run } from "./process.ts";

/** The smallest experiment: every stage, in seconds. */
const CONFIG = "configs/testing/minimal.yaml";

/** Variables that say where Vulkan's drivers are. */
const VULKAN = ["VK_ICD_FILENAMES", "VK_DRIVER_FILES", "VK_ADD_DRIVER_FILES", "XDG_RUNTIME_DIR"];

/** The outcome of {@linkcode checkBundle}. */
export interface Checked {
  /** Whether the network was taken away: Linux, and root or user namespaces. */
  readonly isolated: boolean;
  /** Whether the minimal experiment was run; it needs a WebGPU device. */
  readonly reproduced: boolean;
}

/** Command and arguments that run a program without network, as far as this machine lets. */
async function withoutNetwork(): Promise<string[]> {
  for (const prefix of [["unshare", "--net"], ["unshare", "--map-root-user", "--net"]]) {
    const [program, ...args] = prefix;
    const result = await run(program!, { args: [...args, "true"] }).catch(() => undefined);
    if (result?.success) return prefix;
  }
  return [];
}

/**
 * Unpacks an archive and runs it.
 *
 * @param options `deno`: this checkout's Deno, `root`: the checkout, whose keys the bundle's must equal; `folder`: an
 * empty folder.
 * @throws {Error} when it doesn't unpack, run, or say the same as the checkout.
 */
export async function checkBundle(
  archive: string,
  options: { name: string; deno: string; root: string; folder: string },
): Promise<Checked> {
  const { folder, root } = options;
  const home = join(folder, "home");
  const store = join(folder, "store");
  await Deno.mkdir(home);
  await read("tar", { args: ["-xf", archive, "-C", folder] });
  const bundle = join(folder, options.name);
  const isolate = await withoutNetwork();
  const env: Record<string, string> = { HOME: home, PATH: "/usr/bin:/bin:/usr/sbin:/sbin" };
  for (const name of VULKAN) {
    const value = Deno.env.get(name);
    if (value !== undefined) env[name] = value;
  }
  const bundled = (...args: string[]) => {
    const [program, ...rest] = [...isolate, "sh", join(bundle, "run.sh"), ...args];
    return run(program!, { args: rest, cwd: home, env, clearEnv: true });
  };
  const status = await bundled("status", "--config", CONFIG, "--store", store, "--json");
  const expected = await read(options.deno, {
    args: [
      "run",
      "--allow-read",
      "--allow-env",
      "--allow-ffi",
      "--allow-sys",
      "--allow-run=deno",
      "--no-prompt",
      "stages/main.ts",
      ...["status", "--config", CONFIG, "--store", store, "--json"],
    ],
    cwd: root,
  });
  if (!status.success) throw failure("status", status.stderr);
  if (status.stdout !== expected) {
    throw new Error(
      `The bundle has other nodes or keys than the checkout:\n${status.stdout}\n${expected}`,
    );
  }
  const doctor = await bundled("doctor", "--json");
  let device = false;
  try {
    device = (JSON.parse(doctor.stdout) as { devices: readonly unknown[] }).devices.length > 0;
  } catch {
    throw failure("doctor", doctor.stderr);
  }
  if (device) {
    const reproduce = await bundled("reproduce", "--config", CONFIG, "--store", store);
    if (!reproduce.success) throw failure("reproduce", reproduce.stderr + reproduce.stdout);
  }
  return { isolated: isolate.length > 0, reproduced: device };
}

function failure(task: string, said: string): Error {
  const tail = said.trim().split("\n").slice(-12).join("\n");
  return new Error(
    `\`./run.sh ${task}\` fails in the unpacked bundle, which was not kept:\n${tail}`,
  );
}
