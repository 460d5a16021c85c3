import { assert, assertEquals } from "@std/assert";
import { type ModelConfig, modelSchema } from "../config.ts";
import { type Gpu, openGpu } from "../gpu/device.ts";
import { relativeError } from "../ops/testing.ts";
import { parseSafetensors, toFloat64 } from "../safetensors.ts";
import { chooseExecution, type Execution } from "./ethos.ts";
import { ethosSpecs, randomCase, referenceEthos, type Results, runEthos } from "./ethos_testing.ts";
import type { Values } from "./ethos_testing.ts";

const EXECUTIONS: readonly Execution[] = ["materialized", "fused", "naive"];

/** A golden file's inputs by name, what it expects by the names of {@linkcode Results}, and its configuration. */
async function golden(name: string) {
  const url = new URL(`../testdata/golden/${name}.safetensors`, import.meta.url);
  const { tensors, metadata } = parseSafetensors(await Deno.readFile(url), name);
  const sizes = JSON.parse(metadata["config"]!);
  const config: ModelConfig = {
    ...modelSchema.parse({}),
    vocab_size: 10,
    ...Object.fromEntries(
      ["d_model", "routing_heads", "top_k", "d_query", "d_latent", "d_hidden", "d_context"]
        .map((key) => [key, sizes[key]]),
    ),
    num_experts: sizes.sub_keys ** 2,
  };
  const values: Record<string, Float64Array> = {};
  const expected: Record<string, Float64Array> = {};
  for (const [key, tensor] of tensors) {
    if (key.startsWith("out.")) expected[key.slice("out.".length)] = toFloat64(tensor);
    else if (key.startsWith("grad.")) expected[key] = toFloat64(tensor);
    else values[key] = toFloat64(tensor);
  }
  return { config, values: values as Values, expected: expected as Results };
}

interface Tolerance {
  readonly outputs: number;
  readonly gradients: number;
}

const F32: Tolerance = { outputs: 1e-4, gradients: 5e-4 };

function near(actual: Results, expected: Results, names: Iterable<string>, most: Tolerance) {
  for (const name of names) {
    const error = relativeError(actual[name]!, expected[name]!);
    const tolerance = name.startsWith("grad.") ? most.gradients : most.outputs;
    assert(error <= tolerance, `${name} is off by ${error}, at most ${tolerance}`);
  }
}

const gradients = (config: ModelConfig) => [
  "grad.x",
  ...ethosSpecs(config).filter((s) => s.trained && s.name !== "router.b_q").map((s) =>
    `grad.${s.name}`
  ),
];

function configuration(options: Partial<ModelConfig>): ModelConfig {
  const { vocab_size = 10, ...section } = options;
  return { ...modelSchema.parse(section), vocab_size };
}

const SMALL = configuration({
  num_experts: 49,
  d_model: 20,
  routing_heads: 2,
  top_k: 3,
  d_query: 24,
  d_latent: 8,
  d_hidden: 12,
});

async function checkGolden(gpu: Gpu, file: string, execution: Execution) {
  const { config, values, expected } = await golden(file);
  const { results } = await runEthos(gpu, { ...config, execution }, values);
  assertEquals(Array.from(results["index"]!), Array.from(expected["index"]!));
  const names = ["y", "score", "router.bn.mean", "router.bn.var", ...gradients(config)];
  near(results, expected, names, F32);
  assertEquals(results["grad.router.b_q"]!.every((v) => v === 0), true);
}

for (const software of [true, false]) {
  Deno.test(`ETHOS against the golden files, software ${software}`, async (t) => {
    const gpu = await openGpu({ restrict: { software } });
    for (const file of ["ethos_layer", "ethos_layer_wide", "ethos_layer_context"]) {
      for (const execution of EXECUTIONS) {
        await t.step(`${file}, ${execution}`, () => checkGolden(gpu, file, execution));
      }
    }
    gpu.close();
  });
}
