/** The platforms that a bundle can be made for, and what of each package belongs to one. */

import { UserError } from "../../pipeline/errors.ts";
import { suggestion } from "../../pipeline/terminal/suggest.ts";

/** One platform. */
export interface Target {
  /** As `--target` names it: `linux-x64`. */
  readonly name: string;
  /** `process.platform` there, as packages name it. */
  readonly os: "linux" | "darwin";
  /** `process.arch` there. */
  readonly arch: "x64" | "arm64";
  /** The npm package with Deno's executable. */
  readonly denoPackage: string;
  /** Folder of `dawn.node` in `webgpu/dist`. */
  readonly dawnFolder: string;
}

/** Every target, by name. `run.sh` needs a POSIX shell, and Deno's executable glibc on Linux. */
const TARGETS: readonly Target[] = [
  {
    name: "linux-x64",
    os: "linux",
    arch: "x64",
    denoPackage: "@deno/linux-x64-glibc",
    dawnFolder: "linux-x64",
  },
  {
    name: "linux-arm64",
    os: "linux",
    arch: "arm64",
    denoPackage: "@deno/linux-arm64-glibc",
    dawnFolder: "linux-arm64",
  },
  {
    name: "darwin-x64",
    os: "darwin",
    arch: "x64",
    denoPackage: "@deno/darwin-x64",
    dawnFolder: "darwin-universal",
  },
  {
    name: "darwin-arm64",
    os: "darwin",
    arch: "arm64",
    denoPackage: "@deno/darwin-arm64",
    dawnFolder: "darwin-universal",
  },
];

/**
 * The target of a name.
 *
 * @throws UserError when nothing can be bundled for it.
 */
export function findTarget(name: string): Target {
  const target = TARGETS.find((target) => target.name === name);
  if (target !== undefined) return target;
  const names = TARGETS.map((target) => target.name);
  const windows = name.startsWith("win")
    ? " On Windows, run a linux-x64 bundle in WSL: run.sh needs a POSIX shell."
    : "";
  throw new UserError(
    `--target is ${name}; expected one of ${names.join(", ")}.${suggestion(name, names)}${windows}`,
  );
}

/** The target that this process runs on, if it is one. */
export function hostTarget(): Target | undefined {
  const arch = Deno.build.arch === "aarch64" ? "arm64" : "x64";
  return TARGETS.find((target) => target.os === Deno.build.os && target.arch === arch);
}
