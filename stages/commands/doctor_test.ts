import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { fromFileUrl } from "@std/path";
import { WEBGPU_DEFAULTS } from "../../model/gpu/capabilities.ts";
import { type Diagnosis, doctor, kernelPaths } from "./doctor.ts";

Deno.test("doctor() finds a device, DuckDB and the disk, and returns 0", async () => {
  const folder = await Deno.makeTempDir();
  try {
    let text = "";
    const code = await doctor({ json: true, folder, write: (part) => text += part });
    const { ok, checks, devices }: Diagnosis = JSON.parse(text);
    assertEquals([code, ok], [0, true]);
    const state = Object.fromEntries(checks.map(({ name, state }) => [name, state]));
    for (const name of ["Cards", "WebGPU (Deno)", "DuckDB", "Disk"]) {
      assertEquals(state[name], "ok");
    }
    assertEquals(devices[0]?.runtime, "deno");
    assert((devices[0]?.adapter.description.length ?? 0) > 0);
    assertEquals([...Deno.readDirSync(folder)], []);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("doctor() returns 1 for a folder that is not there, and says so", async () => {
  let text = "";
  const code = await doctor({ folder: "/nonexistent", write: (part) => text += part });
  assertEquals(code, 1);
  assertStringIncludes(text, "✗ Disk");
  assertStringIncludes(text, "/nonexistent");
});

Deno.test("doctor exits 1 without a Vulkan driver, and says how to get one", async () => {
  if (Deno.build.os !== "linux") return;
  const { code, stdout } = await new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--quiet",
      "--no-check",
      "--allow-all",
      fromFileUrl(new URL("doctor.ts", import.meta.url)),
    ],
    env: {
      VK_ICD_FILENAMES: "/nonexistent.json",
      VK_DRIVER_FILES: "/nonexistent.json",
      DENO_WEBGPU_BACKEND: "",
    },
    stderr: "null",
  }).output();
  const text = new TextDecoder().decode(stdout);
  assertEquals(code, 1, text);
  assertStringIncludes(text, "✗ WebGPU (Deno)");
  assertStringIncludes(text, "mesa-vulkan-drivers");
});

Deno.test("doctor --gpu says whose WebGPU must be there, and refuses others", async () => {
  const run = async (gpu: string, env: Record<string, string> = {}) => {
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", "--no-check", "--allow-all"]
        .concat(fromFileUrl(new URL("doctor.ts", import.meta.url)), "--gpu", gpu),
      // No driver: neither WebGPU answers.
      env: { VK_ICD_FILENAMES: "/nonexistent.json", VK_DRIVER_FILES: "/nonexistent.json", ...env },
    }).output();
    return { code, text: new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr) };
  };
  if (Deno.build.os === "linux") {
    const { code, text } = await run("dawn");
    assertEquals(code, 1);
    assertStringIncludes(text, "– WebGPU (Deno)");
    assertStringIncludes(text, "✗ WebGPU (Dawn)");
  }
  const refused = await run("metal", { ETHOS_GPU: "deno" });
  assertEquals(refused.code, 2);
  assertStringIncludes(refused.text, 'error: --gpu is "metal"; expected deno or dawn. See');
});

Deno.test("kernelPaths() says which alternatives kernels take", () => {
  const plain = kernelPaths(WEBGPU_DEFAULTS);
  assertEquals(plain["half precision"], "packed in u32");
  assertEquals([plain["subgroups"], plain["matrix units"]], ["off", "off"]);
  assertEquals(plain["largest binding"], "128 MiB");
  const full = kernelPaths({
    ...WEBGPU_DEFAULTS,
    f16: true,
    subgroups: true,
    subgroup_min_size: 4,
    subgroup_max_size: 32,
    subgroup_matrix: [{ component: "f16", result: "f32", m: 16, n: 8, k: 16 }],
    software: true,
  });
  assertEquals(full["half precision"], "native f16");
  assertEquals(full["subgroups"], "on, size 4 to 32");
  assertEquals(full["matrix units"], "f16→f32 16×8×16");
  assertStringIncludes(full["products"] ?? "", "direct");
});
