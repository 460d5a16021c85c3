/** Every kernel, in the variants that each kind of device takes, compiles under naga and under tint. */

import { assert, assertEquals } from "@std/assert";
import { WEBGPU_DEFAULTS } from "../gpu/capabilities.ts";
import { validateKernels } from "../gpu/dawn_null.ts";
import { openGpu } from "../gpu/open.ts";
import { DEVICE_PROFILES, type RecordedKernel, recordKernels } from "../gpu/recording.ts";
import { softwareLanes } from "./subgroup.ts";
import { ATTENTION_RECORDINGS } from "./recordings/attention_testing.ts";
import { DENSE_RECORDINGS } from "./recordings/dense_testing.ts";
import { EXPERT_RECORDINGS } from "./recordings/experts_testing.ts";
import { LINALG_RECORDINGS } from "./recordings/linalg_testing.ts";
import { recordNetworks } from "./recordings/networks_testing.ts";

/** Each operation in each variant of its options. */
const RECORDINGS = [
  DENSE_RECORDINGS,
  ATTENTION_RECORDINGS,
  EXPERT_RECORDINGS,
  LINALG_RECORDINGS,
].flatMap((operations) => Object.values(operations));

/** Allocates the weights of the networks, which are recorded for other devices than this one. */
const memory = await openGpu();

const kernels: readonly RecordedKernel[] = DEVICE_PROFILES.flatMap((profile) =>
  recordKernels(profile, (gpu) => [
    ...RECORDINGS.flatMap((record) => record(gpu)),
    ...recordNetworks(gpu),
  ], { memory })
);
memory.close();

/** Files that kernels include, by what the names of those kernels begin with. */
const INCLUDED = new Map([
  ["attention_blocks", "attention_forward_blocked"],
  ["attention_tiles", "attention_forward_matrix"],
  ["bitonic", "beam_"],
  ["compressed_weights", "gemm_"],
  ["insertion_direct", "beam_candidates_direct"],
  ["dropout", "dropout_rows"],
  ["experts_entry", "segment_sum"],
  ["experts_quarter_sums", "experts_apply_subgroup"],
  ["experts_stored_entry", "segment_sum"],
  ["gelu", "gemm_"],
  ["gelu_exact", "mixture_activate"],
  ["gemm_epilogue", "gemm_"],
  ["gemm_steps", "gemm_tiled"],
  ["gemm_tile", "gemm_tiled"],
  ["logit_order", "likeliest"],
  ["norm_lanes", "rmsnorm_forward_lanes"],
  ["rows", "layernorm_"],
  ["span_attention", "cached_attention"],
]);

/** Names of all shader files, without their folders. */
const stems: string[] = [];
const shaders = new URL("../../shaders/", import.meta.url);
for (const group of Deno.readDirSync(shaders)) {
  for (const { name } of Deno.readDirSync(new URL(`${group.name}/`, shaders))) {
    stems.push(name.replace(/\.wgsl$/, ""));
  }
}

for (const profile of DEVICE_PROFILES) {
  const { name, runtime, capabilities } = profile;
  Deno.test(`Every shader is part of a kernel for ${name} (${runtime})`, () => {
    const names = kernels.filter((k) => k.profile === profile).map(({ name }) => name);
    // Kernels for other kinds of devices: software adapters, GPUs, those with subgroups or matrix units. Blocks need more workgroup memory than
    // WebGPU guarantees.
    const other = capabilities.software
      ? /_tiled$|_blocked$|_matrix$|_subgroup$|^attention_(blocks|tiles|keys|key_gradient|merge|delta)$|^compressed_vector$|^experts_quarter_sums$|^gemm_(reduce|steps|tile|vector)$|^latent_softmax$/
      : capabilities === WEBGPU_DEFAULTS
      ? /_direct$|_blocked$|_matrix$|_subgroup$|^attention_(blocks|tiles)$|^experts_quarter_sums$/
      : capabilities.subgroup_matrix.length > 0
      ? /_direct$|^sort_scatter$/
      : /_direct$|_matrix$|^attention_tiles$|^sort_scatter$/;
    // Lanes are a software adapter's vectors of at least eight numbers.
    const lanes = softwareLanes(capabilities) !== undefined;
    const missing: string[] = [];
    for (const stem of stems) {
      const host = INCLUDED.get(stem);
      const found = names.some((n) => n === stem || (host && n.startsWith(host)));
      if (found === (other.test(stem) || (!lanes && /_lanes$/.test(stem)))) missing.push(stem);
    }
    assertEquals(missing, []);
  });
}

Deno.test("Every kernel for Dawn compiles under tint, and keeps to WebGPU's defaults where it should", async () => {
  const findings = await validateKernels(
    kernels.filter(({ profile }) => profile.runtime === "dawn"),
  );
  assert(findings.length > 0);
  assertEquals(findings.filter(({ messages }) => messages.length > 0), []);
});

Deno.test("Every kernel for Deno compiles under naga", async () => {
  const gpu = await openGpu();
  const { f16, subgroups } = gpu.capabilities;
  const wrong: string[] = [];
  let compiled = 0;
  for (const { label, source, profile } of kernels) {
    if (profile.runtime !== "deno") continue;
    // An adapter without a feature has naga refuse it, whatever the text.
    if ((profile.capabilities.f16 && !f16) || (profile.capabilities.subgroups && !subgroups)) {
      continue;
    }
    compiled++;
    gpu.device.pushErrorScope("validation");
    gpu.device.createShaderModule({ label, code: source });
    const error = await gpu.device.popErrorScope();
    if (error) wrong.push(`${label}: ${error.message}`);
  }
  gpu.close();
  assert(compiled > 0);
  assertEquals(wrong, []);
});
