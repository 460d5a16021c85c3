import type { Experiment, ExperimentRequest } from "../../command.ts";
import { UserError } from "../../errors.ts";
import type { JsonValue, NodeSpec, Stage } from "../../stage.ts";
import { z } from "zod";
import { numbers } from "./numbers.ts";
import { report } from "./report.ts";
import { train } from "./train.ts";

const failing: Stage<unknown> = {
  name: "failing",
  description: "Fails.",
  module: import.meta.url,
  params: z.unknown(),
  outputs: {},
  run: () => Promise.reject(new Error("This one always fails")),
};

const trivial: Stage<{ i: number }> = {
  name: "trivial",
  description: "Does next to nothing.",
  module: new URL("./mix.ts", import.meta.url).href,
  params: z.strictObject({ i: z.int() }),
  outputs: { value: "json" },
  run({ params, json }) {
    json("value", params.i * 2);
    return Promise.resolve();
  },
};

/** Numbers, three trainings, a report; `--set` changes single values. */
export function loadExperiment(request: ExperimentRequest): Experiment {
  const values: Record<string, number> = {
    count: 50,
    steps: 20,
    milliseconds: 1,
    failing: 0,
    trivial: 0,
    tensorboard: 0,
    seed: request.seed ?? 1,
  };
  for (const set of request.set) {
    const [name, value] = set.split("=");
    if (!(name! in values)) throw new UserError(`--set ${set}: there is no \`${name}\`.`);
    values[name!] = Number(value);
  }
  const { count, steps, milliseconds, seed } = values as Record<string, number> & {
    count: number;
    steps: number;
    milliseconds: number;
    seed: number;
  };
  const configuration: JsonValue = values;
  const tensorboard = values["tensorboard"]! > 0;
  const done = { configuration, configPath: request.config, tensorboard };
  if (values["trivial"]! > 0) {
    const nodes = Array.from({ length: values["trivial"]! }, (_, i): NodeSpec => ({
      stage: trivial,
      label: `${i}`,
      params: { i },
    }));
    return { nodes, ...done };
  }
  const data: NodeSpec = { stage: numbers, params: { count, seed } };
  const trained = [0.1, 0.2, 0.3].map((rate): NodeSpec => ({
    stage: train,
    label: `rate=${rate}`,
    labels: { rate },
    params: { steps, rate, milliseconds },
    inputs: { data: [data] },
  }));
  const page: NodeSpec = { stage: report, params: { title: "Toy" }, inputs: { trained } };
  const nodes = [page];
  if (values["failing"]! > 0) {
    const bad: NodeSpec = { stage: failing, params: {}, inputs: { data: [data] } };
    nodes.push(bad, {
      stage: report,
      label: "bad",
      params: { title: "x" },
      inputs: { trained: [bad] },
    });
  }
  return { nodes, results: [{ node: page, output: "report", to: "results" }], ...done };
}
