import type { Stage } from "../../stage.ts";
import { z } from "zod";
import { mix } from "./mix.ts";

/** Writes numbers that only depend on the seed. */
export const numbers: Stage<{ count: number; seed: number }> = {
  name: "numbers",
  description: "Writes numbers.",
  module: import.meta.url,
  params: z.strictObject({ count: z.int().positive(), seed: z.int() }),
  outputs: { numbers: "file", about: "json", times: "measured" },
  async run({ params, output, json, measured }) {
    const start = performance.now();
    const values = Array.from({ length: params.count }, (_, i) => mix(i + params.seed));
    await Deno.writeTextFile(output("numbers"), values.join("\n"));
    json("about", { count: params.count });
    measured("times", [{ of: "writing", seconds: (performance.now() - start) / 1000 }]);
  },
};
