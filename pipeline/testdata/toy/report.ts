import type { Stage } from "../../stage.ts";
import { z } from "zod";

/** Writes a page about all trained nodes. */
export const report: Stage<{ title: string }> = {
  name: "report",
  description: "Writes a page.",
  module: import.meta.url,
  params: z.strictObject({ title: z.string() }),
  outputs: { report: "directory" },
  async run({ params, inputs, output }) {
    const lines = [`# ${params.title}`];
    for (const node of inputs["trained"]!) {
      const rows = (await node.metrics()).filter((row) => !row.measured);
      const { total } = node.json("summary") as { total: number };
      const text = await Deno.readTextFile(node.file("checkpoint", "deep/total.txt"));
      lines.push(`${node.name} ${node.labels["rate"]}: ${total} = ${text}, ${rows.length} rows`);
    }
    await Deno.mkdir(`${output("report")}/data`);
    await Deno.writeTextFile(`${output("report")}/report.md`, `${lines.join("\n")}\n`);
    await Deno.writeTextFile(`${output("report")}/data/lines.txt`, `${lines.length}`);
  },
};
