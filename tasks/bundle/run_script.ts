/** `run.sh`: the project's tasks with the bundle's Deno, offline. */

/** A task of `deno.json`. */
export interface Task {
  readonly description?: string;
  readonly command?: string;
}

/** Tasks that open no device, for which it is no matter whether there is a Vulkan loader. */
const WITHOUT_GPU = [
  "clean",
  "dag",
  "diff",
  "export",
  "export-checkpoint",
  "gc",
  "rebuild",
  "runs",
  "sql",
  "status",
  "verify",
  "why",
];

/** One Deno command with plain words and, before it, variables: `A=b deno run --allow-read x.ts`. */
const COMMAND = /^((?:[A-Z_]+=[\w.,:\/=-]+ )*)deno (run|test) ((?:[\w.,:\/=@-]+ ?)+)$/;

/**
 * Writes `run.sh` for those tasks that are one `deno run` or `deno test` of modules that are in the bundle. Permissions
 * are the tasks'. Types can't be checked in a bundle, so tests run without.
 *
 * @param files Paths in the bundle.
 */
export function runScript(
  tasks: Readonly<Record<string, Task>>,
  files: ReadonlySet<string>,
): string {
  const offered = Object.entries(tasks).flatMap(([name, { description = "", command = "" }]) => {
    const match = COMMAND.exec(command);
    if (match === null || !/^[\w-]+$/.test(name) || name === "bundle") return [];
    const [, variables = "", verb, rest = ""] = match;
    const modules = rest.split(" ").filter((word) => word.endsWith(".ts"));
    if (modules.length === 0 || !modules.every((module) => files.has(module))) return [];
    const before = variables === "" ? "" : `env ${variables}`;
    const line = `exec ${before}deno ${verb} --cached-only --no-check ${rest.trim()} "$@"`;
    return [{ name, description, line }];
  }).sort((a, b) => a.name < b.name ? -1 : 1);
  const width = Math.max(0, ...offered.map(({ name }) => name.length));
  const list = offered.map(({ name, description }) => `  ${name.padEnd(width)}  ${description}`);
  const quiet = offered.map(({ name }) => name).filter((name) => WITHOUT_GPU.includes(name));
  return `#!/bin/sh
# Runs the project with the Deno and the packages of this folder; needs no network, no npm and no installation.
set -eu

CDPATH= cd -- "$(dirname -- "$0")"
bundle=$PWD

usage() {
  cat <<'END'
Usage: ./run.sh TASK [options]      paths are seen from this folder
       ./run.sh TASK --help
       ./run.sh deno ARGUMENTS      this folder's Deno

${list.join("\n")}
END
}

# Files of include/ are found as shared libraries, so that a Vulkan loader can come with the bundle.
if [ -d include ]; then
  LD_LIBRARY_PATH=$bundle/include\${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  export LD_LIBRARY_PATH
fi

has_vulkan_loader() {
  for program in ldconfig /sbin/ldconfig; do
    if "$program" -p 2>/dev/null | grep -q 'libvulkan\\.so\\.1'; then return 0; fi
  done
  (
    IFS=:
    for folder in \${LD_LIBRARY_PATH:-} /usr/lib/*-linux-gnu /lib/*-linux-gnu /usr/lib64 /lib64 /usr/lib /lib \\
      /usr/local/lib; do
      [ -e "$folder/libvulkan.so.1" ] && exit 0
    done
    exit 1
  )
}

need_gpu() {
  if [ "$(uname -s)" != Linux ] || has_vulkan_loader; then return 0; fi
  printf '%s\\n' \\
    "run.sh: no Vulkan loader (libvulkan.so.1) was found, so WebGPU will find no GPU." \\
    "run.sh: Debian and Ubuntu have it in libvulkan1, Fedora in vulkan-loader; or put the file itself into" \\
    "run.sh: $bundle/include. The GPU's own driver is needed too (in containers: NVIDIA_DRIVER_CAPABILITIES=all)." >&2
}

PATH=$bundle/bin:$PATH
DENO_NO_UPDATE_CHECK=1
export PATH DENO_NO_UPDATE_CHECK
# Deno's caches stay in the bundle where it can be written to.
if [ -z "\${DENO_DIR:-}" ] && [ -w bin ]; then
  DENO_DIR=$bundle/bin/cache
  export DENO_DIR
fi

task=\${1:-}
[ $# -eq 0 ] || shift
case $task in
  ${quiet.length === 0 ? "" : `${quiet.join(" | ")} | `}deno | '' | -h | --help | help) ;;
  *) need_gpu ;;
esac
case $task in
${offered.map(({ name, line }) => `  ${name})\n    ${line}\n    ;;`).join("\n")}
  deno) exec deno "$@" ;;
  -h | --help | help) usage ;;
  '')
    usage >&2
    exit 2
    ;;
  *)
    printf '%s\\n' "run.sh: unknown task \\\`$task\\\`; ./run.sh --help lists them." >&2
    exit 2
    ;;
esac
`;
}
