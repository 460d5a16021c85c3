import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { GpuError } from "./device.ts";
import { NoGpuError, openGpu } from "./open.ts";
import { preamble, restrictCapabilities, WEBGPU_DEFAULTS } from "./capabilities.ts";

Deno.test("openGpu() gives a device with the adapter's limits and features", async () => {
  const gpu = await openGpu();
  const { capabilities, device } = gpu;
  assert(gpu.adapter.description.length > 0);
  assert(capabilities.max_binding_bytes >= WEBGPU_DEFAULTS.max_binding_bytes);
  assert(device.limits.maxStorageBufferBindingSize >= capabilities.max_binding_bytes);
  assert(device.limits.maxBufferSize >= capabilities.max_buffer_bytes);
  assertEquals(device.features.has("shader-f16"), capabilities.f16);
  assertEquals(device.features.has("timestamp-query"), capabilities.timestamps);
  gpu.check();
  gpu.close();
});

Deno.test("openGpu() with restrict gives a device that refuses what was taken away", async () => {
  const gpu = await openGpu({ restrict: { ...WEBGPU_DEFAULTS, max_binding_bytes: 1 << 16 } });
  const { capabilities, device } = gpu;
  assertEquals(capabilities, { ...WEBGPU_DEFAULTS, max_binding_bytes: 1 << 16 });
  assertEquals(device.features.has("shader-f16"), false);
  assertEquals(device.features.has("subgroups"), false);
  assertEquals(device.limits.maxComputeInvocationsPerWorkgroup, 256);
  await assertRejects(
    () =>
      gpu.attempt("Kernel too_wide", () =>
        device.createComputePipelineAsync({
          layout: "auto",
          compute: {
            module: device.createShaderModule({
              code: "@compute @workgroup_size(512) fn main() {}",
            }),
          },
        })),
    GpuError,
    "Kernel too_wide",
  );
  gpu.close();
});

Deno.test("attempt() names what failed and passes on what was made", async () => {
  const gpu = await openGpu();
  const { device } = gpu;
  const error = await assertRejects(
    () => gpu.attempt("Shader broken", () => device.createShaderModule({ code: "fn x( {" })),
    GpuError,
    "Shader broken (validation): ",
  );
  assertEquals(error.kind, "validation");
  assertStringIncludes(error.message, "expected identifier");
  const size = 256;
  const buffer = await gpu.attempt(
    "Buffer weights",
    () => device.createBuffer({ size, usage: GPUBufferUsage.STORAGE }),
  );
  assertEquals(buffer.size, size);
  gpu.check();
  gpu.close();
});

Deno.test("An uncaptured error reaches check() and guard()", async () => {
  const gpu = await openGpu();
  const pending = gpu.guard(new Promise(() => {}));
  gpu.device.createShaderModule({ code: "not wgsl", label: "nonsense" });
  const error = await assertRejects(() => pending, GpuError, "nonsense");
  assertEquals(error.kind, "validation");
  let thrown: unknown;
  try {
    gpu.check();
  } catch (caught) {
    thrown = caught;
  }
  assertEquals(thrown, error);
  gpu.close();
});

Deno.test("close() rejects what is guarded", async () => {
  const gpu = await openGpu();
  const pending = gpu.guard(new Promise(() => {}));
  gpu.close();
  const error = await assertRejects(() => pending, GpuError, "was closed");
  assertEquals(error.kind, "closed");
});

Deno.test("Device errors do not leak from one device to another", async () => {
  const [first, second] = [await openGpu(), await openGpu()];
  first.device.createShaderModule({ code: "not wgsl" });
  await assertRejects(() => first.guard(new Promise(() => {})), GpuError);
  second.check();
  first.close();
  second.check();
  second.close();
});

Deno.test("openGpu() says how to get an adapter where there is none", async () => {
  const code = `import { openGpu } from "${new URL("open.ts", import.meta.url)}";
    try { await openGpu({ icd: "/nonexistent/icd.json" }); } catch (e) { console.log(e.name, e.message); }`;
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", code],
    env: { DENO_WEBGPU_BACKEND: "", NO_COLOR: "1" },
    stderr: "inherit",
  }).output();
  const text = new TextDecoder().decode(stdout);
  assertStringIncludes(text, NoGpuError.name);
  assertStringIncludes(text, "./setup.sh");
});

Deno.test("restrictCapabilities() only lowers, and drops what depends on it", () => {
  const config = { component: "f16", result: "f32", m: 16, n: 16, k: 16 };
  const full = {
    ...WEBGPU_DEFAULTS,
    f16: true,
    subgroups: true,
    subgroup_min_size: 32,
    subgroup_max_size: 32,
    subgroup_matrix: [config],
  };
  assertEquals(restrictCapabilities(full, {}), full);
  assertEquals(restrictCapabilities(full, { max_workgroup_bytes: 1 << 30 }), full);
  assertEquals(restrictCapabilities(full, { f16: false }).subgroup_matrix, []);
  assertEquals(restrictCapabilities(full, { subgroups: false }).subgroup_max_size, 0);
  assertEquals(restrictCapabilities(full, { subgroup_matrix: [] }).subgroup_matrix, []);
  assertEquals(restrictCapabilities(full, { subgroup_matrix: [{ ...config }] }), full);
  assertEquals(restrictCapabilities(full, { software: true }).software, true);
});

Deno.test("preamble() refuses what the device lacks", () => {
  const gpu = { runtime: "deno", capabilities: WEBGPU_DEFAULTS } as const;
  for (const needs of [{ f16: true }, { subgroups: true }, { subgroup_matrix: true }]) {
    let message = "";
    try {
      preamble(gpu, needs);
    } catch (error) {
      message = (error as Error).message;
    }
    assertStringIncludes(message, "does not offer");
  }
  assertEquals(preamble(gpu, {}), "");
});
