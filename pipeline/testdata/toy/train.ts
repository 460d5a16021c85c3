import type { Stage } from "../../stage.ts";
import { z } from "zod";
import { adapter } from "./adapter.ts";
import weights from "./weights.txt" with { type: "text" };

const STEEP = import.meta.resolve("./steep.ts");

interface State {
  readonly step: number;
  readonly total: number;
}

/** Adds up numbers slowly, keeps where it is every few steps, and goes on from there. */
export const train: Stage<{ steps: number; rate: number; milliseconds: number }> = {
  name: "train",
  description: "Adds up numbers, slowly.",
  module: import.meta.url,
  modules: ({ params }) => params.rate > 0.2 ? [STEEP] : [],
  params: z.strictObject({ steps: z.int(), rate: z.number(), milliseconds: z.number() }),
  outputs: { checkpoint: "directory", summary: "json" },
  resource: "gpu",
  async run(context) {
    const { params, inputs, output, json, stateDir, metrics, progress, log, signal } = context;
    let rate = params.rate;
    if (rate > 0.2) {
      context.assertInKey(STEEP);
      rate = (await import("./steep.ts")).steep(rate);
    }
    const text = await Deno.readTextFile(inputs["data"]![0]!.file("numbers"));
    const values = text.split("\n").map(Number);
    const path = `${stateDir}/state.json`;
    let state: State = { step: 0, total: 0 };
    try {
      state = JSON.parse(await Deno.readTextFile(path));
      log.info(`goes on at step ${state.step}`);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
    context.provenance?.({ adapter: adapter.name });
    metrics.rewind(state.step);
    const bar = progress(params.steps, { unit: "steps" });
    while (state.step < params.steps) {
      signal.throwIfAborted();
      const value = values[state.step % values.length]!;
      const total = state.total * Number(weights) + rate * value;
      metrics.write(state.step, { loss: 1 / (1 + total), total });
      metrics.measure(state.step, { seconds: performance.now() / 1000 });
      state = { step: state.step + 1, total };
      if (state.step % 5 === 0) {
        metrics.flush();
        await Deno.writeTextFile(`${path}.new`, JSON.stringify(state));
        await Deno.rename(`${path}.new`, path);
      }
      await new Promise((resolve) => setTimeout(resolve, params.milliseconds));
      bar.update(state.step, `total ${total}`);
    }
    await Deno.mkdir(`${output("checkpoint")}/deep`);
    await Deno.writeTextFile(`${output("checkpoint")}/deep/total.txt`, `${state.total}`);
    await Deno.writeTextFile(`${output("checkpoint")}/steps.txt`, `${state.step}`);
    json("summary", { total: state.total });
  },
};
