/**
 * The command line of the experiment: the pipeline's commands over this experiment's stages.
 *
 * ```sh
 * deno task reproduce --config configs/tiny.yaml --set model.ffn.d_latent=64
 * ```
 *
 * @module
 */

import { fromFileUrl } from "@std/path";
import { runCommandLine } from "../pipeline/command_line.ts";
import { benchCommand } from "./commands/speed/bench_command.ts";
import { checkGoldenCommand } from "./commands/check_golden_command.ts";
import { expandCommand } from "./commands/expand/expand_command.ts";
import { evaluateCommand } from "./commands/model/evaluate_command.ts";
import { exportCheckpointCommand } from "./commands/model/export_checkpoint_command.ts";
import { expertsCommand } from "./commands/interpret/experts_command.ts";
import { GPU_STAGE_OPTIONS } from "./commands/gpu_option.ts";
import { generateCommand } from "./commands/model/generate_command.ts";
import { parityCommand } from "./commands/speed/parity_command.ts";
import { sparseActivationCommand } from "./commands/model/sparse_activation_command.ts";
import { profileCommand } from "./commands/speed/profile_command.ts";

Deno.exit(
  await runCommandLine(Deno.args, {
    name: "deno task",
    description: "Reproduces the ETHOS paper: text, tokens, models, ablations, figures.",
    root: fromFileUrl(new URL("..", import.meta.url)),
    defaultConfig: "configs/tiny.yaml",
    async loadExperiment(request) {
      const { loadAnyExperiment } = await import("./experiment/kinds.ts");
      return await loadAnyExperiment(request);
    },
    stageOptions: GPU_STAGE_OPTIONS,
    commands: [
      evaluateCommand,
      generateCommand,
      exportCheckpointCommand,
      expandCommand,
      sparseActivationCommand,
      expertsCommand,
      profileCommand,
      benchCommand,
      parityCommand,
      checkGoldenCommand,
    ],
  }),
);
