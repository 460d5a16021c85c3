/**
 * `doctor`: the parts of the experiment that this machine has and lacks. Opens a device and computes on it, asks DuckDB a question,
 * and looks at the disk; it needs no network and changes nothing.
 *
 * @module
 */

import { statfs } from "node:fs/promises";
import { parseArgs } from "node:util";
import type { Capabilities, Runtime } from "../../model/gpu/capabilities.ts";
import type { AdapterFacts, Gpu } from "../../model/gpu/device.ts";
import { NoGpuError, openGpu } from "../../model/gpu/open.ts";
import { validateWgsl } from "../../model/gpu/dawn_null.ts";
import { UserError } from "../../pipeline/errors.ts";
import { columnsOf, wrapText } from "../../pipeline/terminal/wrap.ts";
import { describeCard, readCards } from "../workers/cards.ts";
import { runtimeOf } from "./gpu_option.ts";

/** Options of {@linkcode doctor}. */
export interface DoctorOptions {
  /** One JSON document ({@linkcode Diagnosis}) instead of text. */
  readonly json?: boolean;
  /** Folder whose disk is looked at; defaults to the current one. */
  readonly folder?: string;
  /** Whose WebGPU the experiment is to use; the other one can be absent. Defaults to Deno's. */
  readonly gpu?: Runtime;
  /** Takes the output; defaults to stdout. */
  readonly write?: (text: string) => void;
}

/** One thing that was looked at. */
export interface Check {
  /** The part that was examined. */
  readonly name: string;
  /** `missing` makes the exit code 1; `absent` is something that the experiment can do without. */
  readonly state: "ok" | "absent" | "missing";
  readonly found: string;
  /** How to get it, when it is not there. */
  readonly remedy?: string;
}

/** A device that answered. */
export interface DeviceDiagnosis {
  /** Whose WebGPU it is. */
  readonly runtime: Runtime;
  /** Who the adapter says it is. */
  readonly adapter: AdapterFacts;
  /** Capabilities that kernels may use. */
  readonly capabilities: Capabilities;
  /** Which of the alternatives the kernels take, by subject. */
  readonly paths: Readonly<Record<string, string>>;
}

/** All that {@linkcode doctor} found. */
export interface Diagnosis {
  /** Whether the experiment can run. */
  readonly ok: boolean;
  /** The checks, in the order of the text. */
  readonly checks: readonly Check[];
  /** Devices that answered, Deno's first. */
  readonly devices: readonly DeviceDiagnosis[];
}

/** Free space below which `reproduce` would not fit. */
const NEEDED_BYTES = 2 * 2 ** 30;

/**
 * Examines the machine, writes its findings, and returns the exit code: 0 when the experiment can run, 1 when something
 * that it needs is missing.
 *
 * @example
 * ```ts
 * import { doctor } from "./doctor.ts";
 *
 * const code = await doctor({ json: true, write: (text) => console.log(JSON.parse(text).ok) });
 * console.log(code);
 * ```
 */
export async function doctor(options: DoctorOptions = {}): Promise<number> {
  const write = options.write ?? ((text) => Deno.stdout.writeSync(new TextEncoder().encode(text)));
  const columns = options.write ? undefined : columnsOf(Deno.stdout);
  const diagnosis = await diagnose(options.folder ?? Deno.cwd(), options.gpu);
  write(options.json ? JSON.stringify(diagnosis, null, 2) + "\n" : render(diagnosis, columns));
  return diagnosis.ok ? 0 : 1;
}

/** Examines the machine; {@linkcode doctor} writes the result. */
async function diagnose(folder: string, gpu: Runtime = "deno"): Promise<Diagnosis> {
  const devices: DeviceDiagnosis[] = [];
  const checks = [
    await checkDeno(),
    checkMachine(),
    await checkCards(),
    await checkDevice(devices, gpu),
    await checkDuckdb(),
    await checkDisk(folder),
    await checkCompiler(),
    await checkDawn(devices, gpu),
  ];
  return { ok: checks.every(({ state }) => state !== "missing"), checks, devices };
}

async function checkDeno(): Promise<Check> {
  const name = "Deno";
  const wanted = (await Deno.readTextFile(new URL("../../.dvmrc", import.meta.url))).trim();
  const found =
    `${Deno.version.deno} (V8 ${Deno.version.v8}, TypeScript ${Deno.version.typescript})`;
  if (Deno.version.deno === wanted) return { name, state: "ok", found };
  return { name, state: "absent", found, remedy: `Tested with ${wanted}: run ./setup.sh.` };
}

function checkMachine(): Check {
  const { total, available } = Deno.systemMemoryInfo();
  return {
    name: "Machine",
    state: "ok",
    found: `${Deno.build.target}, ${navigator.hardwareConcurrency} cores, ` +
      `${bytes(available)} of ${bytes(total)} memory available`,
  };
}

/** Which cards this process got. Vulkan lists those that it may open, and WebGPU takes the first. */
async function checkCards(): Promise<Check> {
  const name = "Cards";
  const cards = await readCards();
  if (cards.length === 0) {
    const threads = Deno.env.get("LP_NUM_THREADS") ||
      `${navigator.hardwareConcurrency}, one a core`;
    return { name, state: "ok", found: `no NVIDIA card; llvmpipe would use threads: ${threads}` };
  }
  const found = cards.map((card) => `${card.index}: ${describeCard(card)}`).join(", ");
  if (cards.length === 1) return { name, state: "ok", found };
  const remedy = "WebGPU takes the first; `--executor process` gives each worker one.";
  return { name, state: "ok", found, remedy };
}

async function checkDevice(devices: DeviceDiagnosis[], gpu: Runtime): Promise<Check> {
  const name = "WebGPU (Deno)";
  try {
    const device = await examine("deno");
    devices.push(device);
    return { name, state: "ok", found: device.adapter.description };
  } catch (error) {
    return {
      name,
      state: gpu === "deno" ? "missing" : "absent",
      found: message(error),
      remedy: Deno.build.os === "linux"
        ? "./setup.sh installs a Vulkan loader and Mesa's software driver (as root or with sudo): " +
          "apt-get install libvulkan1 mesa-vulkan-drivers"
        : "Update the operating system's graphics driver.",
    };
  }
}

/** Opens a device and has it compute. */
async function examine(runtime: Runtime): Promise<DeviceDiagnosis> {
  const gpu = await openGpu({ runtime });
  try {
    await compute(gpu);
    const { adapter, capabilities } = gpu;
    return { runtime, adapter, capabilities, paths: kernelPaths(capabilities) };
  } finally {
    gpu.close();
  }
}

/** Squares 256 numbers on the device; an adapter that is listed does not always work. */
async function compute(gpu: Gpu): Promise<void> {
  const { device } = gpu;
  const size = 1024;
  const data = device.createBuffer({
    size,
    usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC,
  });
  const copy = device.createBuffer({
    size,
    usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
  });
  const module = device.createShaderModule({
    code: `@group(0) @binding(0) var<storage, read_write> x: array<u32>;
      @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) { x[id.x] = id.x * id.x; }`,
  });
  const pipeline = device.createComputePipeline({ layout: "auto", compute: { module } });
  const group = device.createBindGroup({
    layout: pipeline.getBindGroupLayout(0),
    entries: [{ binding: 0, resource: { buffer: data } }],
  });
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, group);
  pass.dispatchWorkgroups(4);
  pass.end();
  encoder.copyBufferToBuffer(data, 0, copy, 0, size);
  device.queue.submit([encoder.finish()]);
  await gpu.guard(copy.mapAsync(GPUMapMode.READ));
  const values = new Uint32Array(copy.getMappedRange());
  const wrong = values.findIndex((value, i) => value !== i * i);
  if (wrong >= 0) {
    throw new Error(`The device computes wrongly: ${wrong}² came out as ${values[wrong]}.`);
  }
}

/** Which alternative the kernels take on a device, in words. */
export function kernelPaths(capabilities: Capabilities): Record<string, string> {
  const { f16, subgroups, subgroup_min_size, subgroup_max_size, subgroup_matrix } = capabilities;
  const shapes = new Set(
    subgroup_matrix.map(({ component, result, m, n, k }) =>
      `${component}→${result} ${m}×${n}×${k}`
    ),
  );
  const size = subgroup_min_size === subgroup_max_size
    ? `${subgroup_min_size}`
    : `${subgroup_min_size} to ${subgroup_max_size}`;
  return {
    "half precision": f16 ? "native f16" : "packed in u32",
    "subgroups": subgroups ? `on, size ${size}` : "off",
    "matrix units": shapes.size > 0 ? [...shapes].join(", ") : "off",
    "timestamps": capabilities.timestamps ? "on" : "off",
    "products": capabilities.software
      ? "direct (software device: no workgroup memory)"
      : "tiled through workgroup memory",
    "largest binding": bytes(capabilities.max_binding_bytes),
    "largest buffer": bytes(capabilities.max_buffer_bytes),
    "workgroup": `${bytes(capabilities.max_workgroup_bytes)}, ` +
      `${capabilities.max_invocations} invocations, ${capabilities.max_storage_buffers} storage buffers`,
  };
}

async function checkDuckdb(): Promise<Check> {
  const name = "DuckDB";
  try {
    const { DuckDBInstance } = await import("@duckdb/node-api");
    const instance = await DuckDBInstance.create(":memory:");
    const connection = await instance.connect();
    try {
      const reader = await connection.runAndReadAll(
        "SELECT version() AS version, sum(range)::BIGINT AS total FROM range(1001)",
      );
      const [row] = reader.getRowObjects();
      if (row?.["total"] !== 500500n) throw new Error(`1 + … + 1000 came out as ${row?.["total"]}`);
      return { name, state: "ok", found: String(row["version"]) };
    } finally {
      connection.closeSync();
      instance.closeSync();
    }
  } catch (error) {
    return {
      name,
      state: "missing",
      found: message(error),
      remedy:
        "`deno install` puts the packages of deno.lock in place; its library needs --allow-ffi.",
    };
  }
}

async function checkDisk(folder: string): Promise<Check> {
  const name = "Disk";
  try {
    const { bavail, bsize } = await statfs(folder);
    const free = bavail * bsize;
    const found = `${bytes(free)} free in ${folder}`;
    const probe = await Deno.makeTempFile({ dir: folder, prefix: ".doctor-" });
    await Deno.remove(probe);
    if (free >= NEEDED_BYTES) return { name, state: "ok", found };
    return { name, state: "missing", found, remedy: `At least ${bytes(NEEDED_BYTES)} are needed.` };
  } catch (error) {
    const remedy = "Run it in a folder that you may write to.";
    return { name, state: "missing", found: message(error), remedy };
  }
}

const DAWN_REMEDY = "`deno install` brings the package `webgpu`.";

async function checkCompiler(): Promise<Check> {
  const name = "Second compiler (Dawn's tint)";
  try {
    const messages = await validateWgsl("@compute @workgroup_size(64) fn main() {}");
    if (messages.length > 0) throw new Error(messages.join("; "));
    return { name, state: "ok", found: "compiles" };
  } catch (error) {
    return { name, state: "absent", found: message(error), remedy: DAWN_REMEDY };
  }
}

/** Dawn in a process of its own: native code that may crash, and that writes to stderr. */
async function checkDawn(devices: DeviceDiagnosis[], gpu: Runtime): Promise<Check> {
  const name = "WebGPU (Dawn)";
  const { code, stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-check", "--allow-all", import.meta.url, DAWN_PROBE],
    stdout: "piped",
    stderr: "null",
  }).output();
  const text = new TextDecoder().decode(stdout);
  try {
    const answer: { device?: DeviceDiagnosis; error?: string } = JSON.parse(text);
    if (answer.device) {
      devices.push(answer.device);
      return { name, state: "ok", found: answer.device.adapter.description };
    }
    throw new Error(answer.error);
  } catch (error) {
    return {
      name,
      state: gpu === "dawn" ? "missing" : "absent",
      found: code === 0 ? message(error) : `its process ended with exit code ${code}`,
      remedy: gpu === "dawn"
        ? "Dawn needs a GPU with a recent driver; `--gpu deno` does without."
        : "Only needed for matrix units (`--gpu dawn`), on a real GPU.",
    };
  }
}

const USAGE = `Show what this machine has and lacks for the experiment

Usage: deno task doctor [options]

Options:
  --gpu   WebGPU of Deno or of Dawn, deno or dawn (default: $ETHOS_GPU or deno)
  --json  Print one JSON value for machines
  --help  Show help

Exit code: 0 when the experiment can run, 1 when something that it needs is missing.
`;

/** Runs a command line. Not through the pipeline, whose packages may be missing. */
async function runDoctor(args: string[]): Promise<number> {
  const say = (to: typeof Deno.stdout, text: string) =>
    to.writeSync(new TextEncoder().encode(text));
  const options = {
    gpu: { type: "string" },
    json: { type: "boolean" },
    help: { type: "boolean" },
  } as const;
  try {
    const { values } = parseArgs({ args, options });
    if (values.help) {
      say(Deno.stdout, USAGE);
      return 0;
    }
    return await doctor({ json: values.json ?? false, gpu: runtimeOf(values.gpu) });
  } catch (error) {
    const code = (error as { code?: unknown }).code;
    const parsing = typeof code === "string" && code.startsWith("ERR_PARSE_ARGS");
    if (!(error instanceof UserError) && !parsing) throw error;
    say(
      Deno.stderr,
      `error: ${message(error).replace(/\.?$/, ".")} See \`deno task doctor --help\`.\n`,
    );
    return 2;
  }
}

const DAWN_PROBE = "--dawn-probe";

function render({ ok, checks, devices }: Diagnosis, columns?: number): string {
  const wrap = (line: string, hang: number) => wrapText(line, { columns, hang });
  const marks = { ok: "✓", absent: "–", missing: "✗" } as const;
  const width = Math.max(...checks.map(({ name }) => name.length));
  const lines = checks.flatMap(({ name, state, found, remedy }) => [
    wrap(`${marks[state]} ${name.padEnd(width)}  ${found}`, width + 4),
    ...(remedy ? [wrap(`  ${" ".repeat(width)}  ${remedy}`, 0)] : []),
  ]);
  for (const { runtime, adapter, paths } of devices) {
    lines.push("", `${adapter.description} through ${runtime === "deno" ? "Deno" : "Dawn"}`);
    const label = Math.max(...Object.keys(paths).map((key) => key.length));
    for (const [key, value] of Object.entries(paths)) {
      lines.push(wrap(`  ${key.padEnd(label)}  ${value}`, label + 2));
    }
    lines.push(wrap(`  ${"features".padEnd(label)}  ${adapter.features.join(", ")}`, label + 2));
  }
  lines.push("", ok ? "Ready." : "Something that the experiment needs is missing: see ✗ above.");
  return lines.join("\n") + "\n";
}

function bytes(count: number): string {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let value = count;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${Number(value.toFixed(value < 10 ? 2 : 1))} ${units[unit]}`;
}

function message(error: unknown): string {
  if (error instanceof NoGpuError) return error.remark;
  return error instanceof Error ? error.message : String(error);
}

if (import.meta.main) {
  if (Deno.args.includes(DAWN_PROBE)) {
    const answer = await examine("dawn").then(
      (device) => ({ device }),
      (error) => ({ error: message(error) }),
    );
    await new Response(JSON.stringify(answer)).body!.pipeTo(Deno.stdout.writable);
    // Without waiting for Dawn to be torn down.
    Deno.exit(0);
  }
  Deno.exit(await runDoctor(Deno.args));
}
