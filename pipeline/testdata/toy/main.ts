import { runCommandLine } from "../../command_line.ts";
import { adapter } from "./adapter.ts";

Deno.exit(
  await runCommandLine(Deno.args, {
    name: "toy",
    description: "A toy experiment for the engine's tests.",
    root: import.meta.dirname!,
    defaultConfig: "toy.yaml",
    shell: { name: "toy", run: `${Deno.execPath()} run -A ${import.meta.filename}` },
    job: { main: import.meta.filename!, flags: ["--no-check", "--no-prompt", "--allow-all"] },
    workers: {
      options: { devices: { type: "string", requiresArg: true } },
      plan(args, count) {
        const beads = String(args["devices"] ?? "red,blue").split(",");
        const workers = Array.from({ length: count ?? beads.length }, (_, i) => {
          const name = beads[i % beads.length]!;
          return { name, prefix: ["env", `HAND=${i}`], env: { BEAD: name } };
        });
        return Promise.resolve(workers);
      },
    },
    stageOptions: {
      options: { adapter: { choices: ["abacus", "quipu", "soroban"], requiresArg: true } },
      use(args) {
        adapter.name = String(args["adapter"] ?? "abacus");
        return Promise.resolve();
      },
    },
    shorthands: { length: { key: "steps", describe: "Steps of a training" } },
    loadExperiment: async (request) => (await import("./experiment.ts")).loadExperiment(request),
  }),
);
