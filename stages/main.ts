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
import { assertSharedGroups, STAGE_OPTIONS } from "./commands/data_parallel_option.ts";
import { EXPLORER_PAGES } from "./commands/interpret/explorer_pages.ts";
import { expertsCommand } from "./commands/interpret/experts_command.ts";
import { generateCommand } from "./commands/model/generate_command.ts";
import { lmEvalCommand } from "./commands/lm_eval/lm_eval_command.ts";
import { parityCommand } from "./commands/speed/parity_command.ts";
import { sparseActivationCommand } from "./commands/model/sparse_activation_command.ts";
import { exportModelCommand } from "./commands/publish/export_model_command.ts";
import { playgroundCommand } from "./commands/playground/playground_command.ts";
import { publishModelCommand } from "./commands/publish/publish_model_command.ts";
import { serveCommand } from "./commands/serve/serve_command.ts";
import { profileCommand } from "./commands/speed/profile_command.ts";
import { chosenRanks } from "./train/ranks/chosen.ts";
import { WORKERS } from "./workers/workers.ts";

Deno.exit(
  await runCommandLine(Deno.args, {
    name: "deno task",
    description: "Reproduces the ETHOS paper: text, tokens, models, ablations, figures.",
    root: fromFileUrl(new URL("..", import.meta.url)),
    defaultConfig: "configs/tiny.yaml",
    async loadExperiment(request) {
      const { loadAnyExperiment } = await import("./experiment/kinds.ts");
      const experiment = await loadAnyExperiment(request);
      assertSharedGroups(experiment);
      return experiment;
    },
    title: "ETHOS experiments",
    dashboard: {
      tokens: "tokens",
      step_seconds: "step_seconds",
      first: [
        "loss",
        "validation_nats",
        "lr",
        "grad_norm",
        "tokens_per_second",
        "loss_scale",
        "memory_bytes",
        "expert_usage",
        "expert_hottest",
        "expert_unevenness",
        "expert_gini",
      ],
    },
    pages: EXPLORER_PAGES,
    stageOptions: STAGE_OPTIONS,
    async gpuNodes() {
      // Ranks are processes of their own, and share the cores already.
      if (chosenRanks() > 1) return 1;
      const { nodesAtOnce } = await import("./shared_gpu.ts");
      return await nodesAtOnce();
    },
    workers: WORKERS,
    job: {
      main: fromFileUrl(import.meta.url),
      flags: [
        "--allow-read",
        "--allow-write",
        "--allow-env",
        "--allow-net",
        "--allow-ffi",
        "--allow-sys",
        "--allow-run",
        "--no-prompt",
      ],
    },
    shorthands: {
      extend: {
        key: "train.extend",
        describe: "Go on with finished trainings, to so many updates in all",
      },
    },
    commands: [
      evaluateCommand,
      generateCommand,
      serveCommand,
      playgroundCommand,
      lmEvalCommand,
      exportCheckpointCommand,
      exportModelCommand,
      publishModelCommand,
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
