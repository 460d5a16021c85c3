import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import type { Gpu } from "../../gpu/device.ts";
import { compilesSlowly, openTestGpu, testDevices } from "../../gpu/testing.ts";
import { relativeError } from "../../ops/testing.ts";
import { parseSafetensors, toFloat64 } from "../../checkpoint/safetensors.ts";
import { chooseExecution, type Execution } from "./ethos.ts";
import {
  type EthosSizes,
  ethosSizes,
  ethosSpecs,
  randomCase,
  referenceEthos,
  type Results,
  runEthos,
  type Values,
} from "./ethos_testing.ts";

const EXECUTIONS: readonly Execution[] = ["materialized", "fused", "naive"];

/** A golden file's inputs by name, what it expects by the names of {@linkcode Results}, and its configuration. */
async function golden(name: string) {
  const url = new URL(`../../golden/testdata/${name}.safetensors`, import.meta.url);
  const { tensors, metadata } = parseSafetensors(await Deno.readFile(url), name);
  const sizes = JSON.parse(metadata["config"]!);
  const { d_model, routing_heads, top_k, d_query, d_latent, d_hidden, d_context } = sizes;
  const config: EthosSizes = {
    ...ethosSizes(),
    ...{ d_model, routing_heads, top_k, d_query, d_latent, d_hidden, d_context },
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

const gradients = (config: EthosSizes) => [
  "grad.x",
  ...ethosSpecs(config).filter((s) => s.trained && s.name !== "router.b_q").map((s) =>
    `grad.${s.name}`
  ),
];

const SMALL = ethosSizes({
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

/** Kinds of devices, which take different kernels. */
const DEVICES = testDevices([
  ["software", { software: true }],
  ["no subgroups", { software: false, subgroups: false }],
  ["subgroups", { software: false }],
]);

for (const [device, restrict] of DEVICES) {
  Deno.test(`ETHOS against the golden files, ${device}`, async (t) => {
    const gpu = await openTestGpu(restrict);
    for (const file of ["ethos_layer", "ethos_layer_wide", "ethos_layer_context"]) {
      for (const execution of EXECUTIONS) {
        await t.step(`${file}, ${execution}`, () => checkGolden(gpu, file, execution));
      }
    }
  });
}

/** Runs a case and compares with float64, on the GPU's own choice of experts, which must be optimal. */
async function checkReference(
  gpu: Gpu,
  config: EthosSizes,
  options: { tokens: number; seed: number; tolerance?: Tolerance } & Parameters<typeof runEthos>[3],
) {
  const { tokens, seed, tolerance = F32, ...rest } = options;
  const values = randomCase(config, tokens, seed);
  const run = await runEthos(gpu, config, values, rest);
  const { index, score } = run.results;
  const selection = Array.from(index!, (e, i) => score![i] === 0 ? config.num_experts : e);
  const expected = referenceEthos(config, values, { selection });
  const skip = config.router_batch_norm ? "" : "bn";
  const names = ["y", "score", ...gradients(config)].filter((name) =>
    !skip || !name.includes(skip)
  );
  if (!config.router_batch_norm) names.push("grad.router.b_q");
  if (config.load_balance_coef > 0) names.push("balance");
  near(run.results, expected, names, tolerance);
  return { ...run, expected, values };
}

Deno.test("ETHOS against float64 at odd sizes", async (t) => {
  for (const [device, restrict] of DEVICES) {
    const gpu = await openTestGpu(restrict);
    const wide = { ...SMALL, num_experts: 169, routing_heads: 3, top_k: 7, d_hidden: 132 };
    const step = (name: string, check: () => Promise<unknown>) =>
      t.step(`${name}, ${device}`, async () => void await check());
    for (const execution of EXECUTIONS) {
      await step(
        `wide, ${execution}`,
        () => checkReference(gpu, { ...wide, execution }, { tokens: 53, seed: 3 }),
      );
      await step(`balanced, without batch norm, context, ${execution}`, () =>
        checkReference(gpu, {
          ...SMALL,
          execution,
          load_balance_coef: 0.3,
          router_batch_norm: false,
          d_context: 4,
        }, { tokens: 19, seed: 5 }));
    }
  }
});

/** Runs the case again with codes that are no numbers for all experts that no token keeps, some of which tokens drop: nothing that is not made of those codes changes a bit. */
async function checkPoisoned(
  gpu: Gpu,
  config: EthosSizes,
  { values, results }: { values: Values; results: Results },
) {
  const { d_latent, num_experts } = config;
  const index = Array.from(results["index"]!);
  const kept = new Set(index.filter((_, i) => results["score"]![i] !== 0));
  // The first expert's row is what kernels read in the place of no row.
  assert(index.some((expert) => !kept.has(expert)) && !kept.has(0));
  const z = values["z"]!.slice();
  for (let expert = 0; expert < num_experts; expert++) {
    if (!kept.has(expert)) z.fill(NaN, expert * d_latent, (expert + 1) * d_latent);
  }
  const poisoned = await runEthos(gpu, config, { ...values, z });
  // Every code is an operand of the gradients of codes and of W1.
  const names = ["y", "score", ...gradients(config)].filter((name) => !/grad\.(z|w1)$/.test(name));
  for (const name of names) assertEquals(poisoned.results[name], results[name], name);
}

Deno.test("ETHOS keeps as many experts as a mass or a threshold asks for", async (t) => {
  const rules = [
    { choice: "mass", mass: 0.6, load_balance_coef: 0.3 },
    { choice: "threshold", threshold: 0.3, min_k: 1 },
  ] as const;
  for (const [device, restrict] of DEVICES) {
    const gpu = await openTestGpu(restrict);
    for (const execution of EXECUTIONS) {
      await t.step(`${execution}, ${device}`, async () => {
        for (const rule of rules) {
          // Four kept experts at most: no other reason to look at each. Then several rounds of eight, and context.
          for (const more of [{ top_k: 4 }, { routing_heads: 3, top_k: 7, d_context: 4 }]) {
            // So many experts that tokens drop some that none keeps.
            const config = { ...SMALL, num_experts: 441, ...rule, ...more, execution };
            const { expected, results, values } = await checkReference(gpu, config, {
              tokens: 29,
              seed: 50,
            });
            const dropped = (of: Results) => Array.from(of["score"]!, (s) => s === 0);
            // As many experts as the float64 scores keep, or a near tie.
            assert(expected["lag"]![0]! < 1e-4);
            assert(dropped(results).includes(true) && dropped(results).includes(false));
            await checkPoisoned(gpu, config, { values, results });
          }
        }
      });
    }
  }
});

Deno.test("ETHOS at any shape: the three executions agree with float64", async () => {
  const gpu = await openTestGpu();
  const four = (max: number) => fc.integer({ min: 1, max }).map((n) => 4 * n);
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        keys: fc.integer({ min: 3, max: 13 }),
        routing_heads: fc.integer({ min: 1, max: 3 }),
        top_k: fc.constant(3),
        d_model: four(6),
        d_query: four(4).map((n) => 2 * n),
        d_latent: four(3),
        // The fused kernel knows its width by text: few of them, so few compilations.
        d_hidden: fc.constantFrom(8, 12),
        d_context: fc.constantFrom(0, 4),
        execution: fc.constantFrom(...EXECUTIONS),
      }),
      fc.integer({ min: 2, max: 40 }),
      fc.integer({ min: 0, max: 1000 }),
      async ({ keys, ...sizes }, tokens, seed) => {
        const config = { ...SMALL, ...sizes, num_experts: keys ** 2 };
        // Batch norm of few tokens divides by tiny deviations, which any rounding turns over.
        const router_batch_norm = tokens >= 16;
        await checkReference(gpu, { ...config, router_batch_norm }, { tokens, seed });
      },
    ),
    { numRuns: 12, seed: 7 },
  );
});

const DENSE = { ...SMALL, num_experts: 81, d_hidden: 20, d_latent: 16, top_k: 8 };

Deno.test("ETHOS with tables in parts gives what whole tables give", async (t) => {
  const software = { software: true };
  const whole = await openTestGpu(software);
  const split = await openTestGpu({ ...software, max_binding_bytes: 5120 });
  const subgroups = await openTestGpu({ software: false, max_binding_bytes: 5120 });
  // Small enough that everything but the tables fits a binding of 5 KiB.
  const config = {
    ...DENSE,
    num_experts: 169,
    top_k: 2,
    d_model: 12,
    d_query: 8,
    routing_heads: 2,
  };
  for (const execution of EXECUTIONS) {
    for (const d_context of [0, 4]) {
      await t.step(`${execution}, context ${d_context}`, async () => {
        const sizes = { ...config, execution, d_context };
        const options = { tokens: 17, seed: 11 };
        const one = await checkReference(whole, sizes, options);
        const many = await checkReference(split, sizes, options);
        assertEquals(one.parts, 1);
        assert(many.parts > 1, `${many.parts} parts`);
        assertEquals(many.results["index"], one.results["index"]);
        if (execution === "materialized" && !compilesSlowly()) {
          await checkReference(subgroups, sizes, options);
        }
      });
    }
  }
});

Deno.test("ETHOS in chunks of workspace gives what one chunk gives, in less memory", async () => {
  const gpu = await openTestGpu();
  const config = { ...SMALL, num_experts: 4096, d_hidden: 64, top_k: 8, routing_heads: 2 };
  const options = { tokens: 40, seed: 13 };
  const memory: Record<string, number> = {};
  for (const execution of ["materialized", "fused"] as const) {
    const run = await checkReference(gpu, { ...config, execution }, {
      ...options,
      workspace_bytes: 64 * 1024,
    });
    memory[execution] = run.memory;
  }
  // The table alone takes 1 MiB.
  assert(memory["fused"]! < memory["materialized"]! - 2 ** 19, JSON.stringify(memory));
  // 16 assignments a token: chunks of 4 tokens.
  const naive = { ...config, execution: "naive" as const, num_experts: 100, d_context: 4 };
  await checkReference(gpu, naive, { ...options, workspace_bytes: 20_000 });
});

Deno.test("ETHOS fused splits the kept experts that a software adapter's loops would not reach", async () => {
  const gpu = await openTestGpu({ software: true });
  // 64 experts a token, 64 · (16 + 2) rounds each: more than 65,535.
  const config = {
    ...SMALL,
    execution: "fused" as const,
    num_experts: 256,
    routing_heads: 4,
    top_k: 16,
    d_latent: 64,
    d_hidden: 256,
  };
  await checkReference(gpu, config, { tokens: 5, seed: 37 });
});

Deno.test("ETHOS is the same bits each time, and with every tensor in a buffer of its own", async (t) => {
  for (const [device, restrict] of DEVICES) {
    const gpu = await openTestGpu(restrict);
    for (const execution of EXECUTIONS) {
      await t.step(`${execution}, ${device}`, async () => {
        const config = { ...DENSE, execution, load_balance_coef: 0.1 };
        const values = randomCase(config, 70, 17);
        const first = await runEthos(gpu, config, values);
        const again = await runEthos(gpu, config, values);
        const alone = await runEthos(gpu, config, values, { isolate: true });
        assertEquals(again.results, first.results);
        assertEquals(alone.results, first.results);
      });
    }
  }
});

Deno.test("ETHOS in mixed precision stays close, with f16 native and packed", async (t) => {
  const tolerance = { outputs: 1e-2, gradients: 2e-2 };
  for (const [f16, software] of [[true, true], [false, true], [true, false]] as const) {
    if (!f16 && compilesSlowly()) continue;
    const gpu = await openTestGpu({ f16, software });
    for (const execution of EXECUTIONS) {
      for (const d_context of [0, 4]) {
        await t.step(
          `${execution}, context ${d_context}, f16 ${f16}, software ${software}`,
          async () => {
            const config = { ...DENSE, execution, d_context };
            const options = { tokens: 33, seed: 19, precision: "mixed" as const, tolerance };
            await checkReference(gpu, config, options);
          },
        );
      }
    }
  }
});

Deno.test("ETHOS fused is right at widths that matrix units take, also with tables in parts", async () => {
  // 15 experts a token are no whole 16; 69 tokens no whole eights, and too many for several workgroups each.
  const config = {
    ...SMALL,
    execution: "fused" as const,
    num_experts: 900,
    routing_heads: 3,
    top_k: 5,
    d_latent: 32,
    d_hidden: 256,
  };
  const tolerance = { outputs: 1e-2, gradients: 2e-2 };
  const options = { tokens: 69, seed: 41, precision: "mixed" as const, tolerance };
  for (const restrict of [{}, { max_binding_bytes: 277 * 256 }]) {
    await checkReference(await openTestGpu(restrict), config, options);
  }
});

Deno.test("ETHOS fused spreads the experts of few tokens over workgroups, also with tables in parts", async () => {
  // 40 experts a token: a last part that is not full, one that is empty, and codes in two tables.
  const config = {
    ...SMALL,
    execution: "fused" as const,
    num_experts: 441,
    routing_heads: 5,
    top_k: 8,
  };
  // Each kernel takes a software adapter seconds to compile: what can vary does so at once.
  const cases = [
    { tokens: 37, d_context: 0, restrict: {} },
    { tokens: 32, d_context: 4, restrict: {} },
    { tokens: 3, d_context: 0, restrict: { max_binding_bytes: 40 * 256 } },
  ];
  for (const { tokens, d_context, restrict } of cases) {
    const gpu = await openTestGpu({ software: false, ...restrict });
    await checkReference(gpu, { ...config, d_context }, { tokens, seed: 43 + tokens });
  }
});

Deno.test("ETHOS adds to the residual, and to the gradients of an earlier micro-batch", async (t) => {
  const gpu = await openTestGpu();
  const values = randomCase(SMALL, 21, 23);
  const residual = randomCase(SMALL, 21, 24)["g"]!;
  for (const execution of EXECUTIONS) {
    await t.step(execution, async () => {
      const config = { ...SMALL, execution };
      const once = await runEthos(gpu, config, values);
      const twice = await runEthos(gpu, config, values, { passes: 2, residual });
      near(twice.results, { y: once.results["y"]!.map((v, i) => v + residual[i]!) }, ["y"], F32);
      for (const name of gradients(config).filter((name) => name !== "grad.x")) {
        near(twice.results, { [name]: once.results[name]!.map((v) => 2 * v) }, [name], F32);
      }
    });
  }
});

Deno.test("ETHOS with a loss scale scales every gradient, the load balance's too", async () => {
  const gpu = await openTestGpu();
  const config = { ...SMALL, load_balance_coef: 0.5 };
  const values = randomCase(config, 21, 29);
  const plain = await runEthos(gpu, config, values);
  const scaled = await runEthos(gpu, config, values, { loss_scale: 256 });
  assertEquals(scaled.results["balance"], plain.results["balance"]);
  for (const name of gradients(config)) {
    near(scaled.results, { [name]: plain.results[name]!.map((v) => 256 * v) }, [name], F32);
  }
  // Half of the term's gradient is the whole gradient of a term with half the coefficient.
  const half = await runEthos(gpu, config, values, { microBatches: 2 });
  const less = await runEthos(gpu, { ...config, load_balance_coef: 0.25 }, values);
  near(half.results, less.results, gradients(config), F32);
});

Deno.test("ETHOS in evaluation normalises by the running statistics and leaves them", async () => {
  const gpu = await openTestGpu();
  const config = { ...SMALL, load_balance_coef: 0.5 };
  const values = randomCase(config, 1, 31);
  const { results } = await runEthos(gpu, config, values, { mode: "evaluate" });
  const expected = referenceEthos(config, values, { training: false });
  assertEquals(Array.from(results["index"]!), Array.from(expected["index"]!));
  near(results, expected, ["y", "score"], F32);
  near(results, values, ["router.bn.mean", "router.bn.var"], { outputs: 0, gradients: 0 });
  assertEquals(results["balance"], undefined);
});

Deno.test("chooseExecution() materialises once the tokens keep more experts than there are", () => {
  const config = ethosSizes();
  assertEquals(chooseExecution(config, 2048), "fused");
  assertEquals(chooseExecution(config, 2049), "materialized");
  assertEquals(chooseExecution({ ...config, execution: "naive" }, 1), "naive");
  // A processor's products are worth three times as many experts.
  const software = { software: true };
  const tokens = Math.ceil(config.num_experts / (3 * config.routing_heads * config.top_k));
  assertEquals(chooseExecution(config, tokens - 1, software), "fused");
  assertEquals(chooseExecution(config, tokens, software), "materialized");
  assertEquals(chooseExecution({ ...config, execution: "fused" }, 2048, software), "fused");
});
