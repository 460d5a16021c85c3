import { runCommandLine } from "../../mod.ts";

Deno.exit(
  await runCommandLine(Deno.args, {
    name: "toy",
    description: "A toy experiment for the engine's tests.",
    root: import.meta.dirname!,
    defaultConfig: "toy.yaml",
    shell: { name: "toy", run: `${Deno.execPath()} run -A ${import.meta.filename}` },
    loadExperiment: async (request) => (await import("./experiment.ts")).loadExperiment(request),
  }),
);
