/** What `deno task measure` runs, command by command. */

import type { Runtime } from "../../model/gpu/device.ts";

/** One command whose result is kept. */
export interface Step {
  /** Its file without `.json`: `dawn-step-f32`. */
  readonly name: string;
  /** Of `stages/main.ts`, without `--save`. */
  readonly args: readonly string[];
  /**
   * Whether the file's own account says what of it is finished, so that the command goes on with it (`--continue`), and exit code 1 says
   * what came out, not that it failed.
   */
  readonly continues?: true;
}

/** Cases of `bench`: name, suite and what `--only` chooses. */
const BENCHES: readonly [name: string, suite: string, ...rest: readonly string[]][] = [
  ["step", "step", "--only", "step.mixed.none", "--steps", "20"],
  ["step-recomputed", "step", "--only", "mixed.experts", "--only", "mixed.full", "--steps", "5"],
  ["step-f32", "step", "--only", "f32.none", "--steps", "5"],
  ["gemm", "copy,gemm", "--only", "copy.", "--only", "square"],
  // So many tokens on a GPU, and on a software device.
  ["experts", "experts", "--only", ".8192.", "--only", ".128."],
  ["attention", "attention"],
  ["scaling", "scaling", "--only", "num_experts", "--steps", "4"],
  ["inference", "inference", "--only", "mixed"],
];

/** Names of the benchmarks without their runtime: `step-f32`. */
export const BENCH_NAMES: readonly string[] = BENCHES.map(([name]) => name);

/** What is measured on one runtime. `parity` adds 200 updates in each precision, and the same bits twice and after a resume. */
export function stepsOf(
  runtime: Runtime,
  { config, parity }: { readonly config: string; readonly parity: boolean },
): Step[] {
  const on = ["--config", config, "--gpu", runtime];
  const steps: Step[] = BENCHES.map(([name, suite, ...rest]) => ({
    name: `${runtime}-${name}`,
    args: ["bench", ...on, "--suite", suite, ...rest],
  }));
  steps.push({ name: `${runtime}-profile`, args: ["profile", ...on, "--steps", "8"] });
  if (!parity) return steps;
  for (const precision of ["f32", "mixed"]) {
    const args = ["parity", "--config", config, "--ways", `${runtime}:${precision}`];
    steps.push({
      name: `parity-${runtime}-${precision}`,
      args: [...args, "--set", "train.micro_batch=4"],
      continues: true,
    }, {
      name: `same-${runtime}-${precision}`,
      args: [...args, "--set", "train.micro_batch=1", "--steps", "6", "--twice", "--resume"],
      continues: true,
    });
  }
  return steps;
}
