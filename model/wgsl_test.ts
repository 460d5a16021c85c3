/** Every kernel, in the variants that each kind of device takes, compiles under naga and under tint. */

import { assert, assertEquals } from "@std/assert";
import { validateKernels } from "./gpu/dawn_null.ts";
import { type Gpu, openGpu } from "./gpu/device.ts";
import { Plan } from "./gpu/plan.ts";
import { DEVICE_PROFILES, type RecordedKernel, recordKernels } from "./gpu/recording.ts";
import { type DType, Tensor } from "./gpu/tensor.ts";
import { initializeNormal } from "./ops/initialize.ts";
import { modelSchema } from "./config.ts";
import { recordEthosVariants } from "./layers/ethos_testing.ts";
import { castInto } from "./ops/cast.ts";
import { crossEntropy } from "./ops/cross_entropy.ts";
import { embeddingBackward, embeddingForward } from "./ops/embedding.ts";
import { type Epilogue, gemm } from "./ops/gemm.ts";
import { recordUpdate, sumInto } from "./ops/optimizer.ts";
import { rmsnormBackward, rmsnormForward } from "./ops/rmsnorm.ts";
import { swigluBackward, swigluForward } from "./ops/swiglu.ts";

/** A tensor that exists outside of the plan, as weights do. */
const t = (name: string, shape: number[], dtype: DType = "f32") =>
  new Tensor(name, shape, { dtype });

const EPILOGUES: readonly Epilogue[] = ["none", "add", "accumulate", "gelu", "gelu_backward"];

/** Records each operation, in each variant of its options. */
const RECORDINGS: Readonly<Record<string, (gpu: Gpu) => Plan[]>> = {
  gemm(gpu) {
    const plan = new Plan(gpu, "gemm");
    // A small and a large one: they take different tiles.
    for (const size of [64, 1024]) {
      for (const dtype of ["f32", "f16"] as const) {
        for (const layout of ["nn", "nt", "tn"] as const) {
          for (const epilogue of EPILOGUES) {
            gemm(plan, `${layout} ${epilogue} ${size}`, {
              a: t("a", [size, size], dtype),
              b: t("b", [size, size], dtype),
              c: t("c", [size, size], dtype),
              layout,
              epilogue,
              ...(epilogue === "add" ? { addend: t("e", [size, size], dtype) } : {}),
            });
          }
        }
      }
    }
    return [plan];
  },
  elementwise(gpu) {
    const plan = new Plan(gpu, "elementwise");
    for (const dtype of ["f32", "f16"] as const) {
      const [gate, up, h, dh, dgate, dup] = ["gate", "up", "h", "dh", "dgate", "dup"].map((name) =>
        t(name, [16, 64], dtype)
      ) as [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor];
      swigluForward(plan, "swiglu", { gate, up, h });
      swigluBackward(plan, "swiglu", { gate, up, dh, dgate, dup });
    }
    castInto(plan, "cast", { from: t("from", [16, 64]), to: t("to", [16, 64], "f16") });
    castInto(plan, "cast", { from: t("from", [16, 64], "f16"), to: t("to", [16, 64]) });
    initializeNormal(plan, "normal", [t("w", [16, 64])], { seed: 1, deviation: 0.02 });
    return [plan];
  },
  embedding(gpu) {
    const plan = new Plan(gpu, "embedding");
    for (const dtype of ["f32", "f16"] as const) {
      const tokens = t("tokens", [32], "u32");
      const parts = [t("table.0", [64, 32], dtype), t("table.1", [36, 32], dtype)];
      embeddingForward(plan, "embedding", { tokens, parts, x: t("x", [32, 32], dtype) });
    }
    embeddingBackward(plan, "embedding", {
      order: t("order", [32], "u32"),
      begin: t("begin", [101], "u32"),
      dx: t("dx", [32, 32]),
      parts: [t("grad.0", [64, 32]), t("grad.1", [36, 32])],
    });
    return [plan];
  },
  cross_entropy(gpu) {
    const plan = new Plan(gpu, "cross-entropy");
    for (const dtype of ["f32", "f16"] as const) {
      const tensors = {
        logits: t("logits", [32, 100], dtype),
        targets: t("targets", [32], "u32"),
        losses: t("losses", [32]),
      };
      const options = { vocabulary: 99, rows: 32, first: 0 };
      crossEntropy(plan, "loss", tensors, options);
      crossEntropy(plan, "loss", tensors, {
        ...options,
        gradient: { scale: 1 / 32, control: t("control", [16]) },
      });
    }
    for (const add of [true, false]) {
      const total = t("total", [4]);
      sumInto(plan, "sum", { x: t("losses", [32]), total }, { slot: 0, scale: 1, add });
    }
    return [plan];
  },
  rmsnorm(gpu) {
    const plan = new Plan(gpu, "rmsnorm");
    for (const dtype of ["f32", "f16"] as const) {
      const [x, y, dy, dx] = ["x", "y", "dy", "dx"].map((name) => t(name, [32, 64], dtype)) as [
        Tensor,
        Tensor,
        Tensor,
        Tensor,
      ];
      const gain = t("gain", [64]);
      const scale = t("scale", [32]);
      const dgain = { tensor: t("dgain", [64]), epilogue: "none" } as const;
      rmsnormForward(plan, "norm", { x, y, gain, scale });
      for (const epilogue of ["none", "accumulate"] as const) {
        rmsnormBackward(plan, "norm", { x, dy, dx, gain, scale, dgain, epilogue });
      }
    }
    return [plan];
  },
  ethos(gpu) {
    const sizes = { d_model: 32, d_query: 16, d_latent: 16, d_hidden: 24, routing_heads: 2 };
    // More sub-keys than an invocation's, and a width beyond one tile, too.
    const large = { ...sizes, num_experts: 128 ** 2, top_k: 16, d_hidden: 1024 };
    return [{ ...sizes, num_experts: 64, top_k: 4 }, large].flatMap((section) =>
      recordEthosVariants(gpu, { ...modelSchema.parse(section), vocab_size: 10 })
    );
  },
  optimizer(gpu) {
    return [undefined, "f16"].flatMap((mixed) => {
      const plan = new Plan(gpu, "optimizer");
      const chunk = {
        value: t("value", [4096]),
        gradient: t("gradient", [4096]),
        m: t("m", [4096]),
        v: t("v", [4096]),
        operand: mixed ? t("operand", [4096], "f16") : undefined,
      };
      recordUpdate(plan, [{ decay: true, chunks: [chunk] }, { decay: false, chunks: [chunk] }], {
        control: t("control", [16]),
        schedule: t("schedule", [4]),
        loss: t("loss", [4]),
        metrics: t("metrics", [256, 8]),
      }, {
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        clip_norm: 1,
        ...(mixed
          ? {
            loss_scale: {
              growth_interval: 2000,
              growth_factor: 2,
              backoff_factor: 0.5,
              minimum: 1,
            },
          }
          : {}),
      });
      return [plan];
    });
  },
};

const kernels: readonly RecordedKernel[] = DEVICE_PROFILES.flatMap((profile) =>
  Object.values(RECORDINGS).flatMap((record) => recordKernels(profile, record))
);

Deno.test("Every shader is part of a recorded kernel", async () => {
  // Files that others include, by who includes them.
  const included = new Map([
    ["gelu", "gemm_direct"],
    ["gemm_epilogue", "gemm_direct"],
    ["experts_entry", "segment_sum"],
  ]);
  const names = new Set(kernels.map(({ name }) => name));
  const missing: string[] = [];
  for await (const { name } of Deno.readDir(new URL("../shaders/", import.meta.url))) {
    const stem = name.replace(/\.wgsl$/, "");
    if (!names.has(stem) && !names.has(included.get(stem) ?? "")) missing.push(name);
  }
  assertEquals(missing, []);
});

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
