/**
 * `why`: everything that one node is a function of, and what changed since it last ran.
 *
 * @module
 */

import { type Command, EXPERIMENT_OPTIONS, INPUT_OPTIONS } from "../command.ts";
import { formatBytes } from "../store/files.ts";
import type { PlannedNode } from "../run/plan.ts";
import type { NodeRecord, PublishedOutput } from "../store/records/records.ts";

/** Explains one node. */
export const why: Command = {
  name: "why <node>",
  summary: "Explain a node: what its key is made of, what changed, what it published",
  examples: [["why 'train[d_latent=64,seed=2]'", "one cell of a sweep"]],
  positionals: { node: { type: "string", describe: "Name of a node, as `status` prints it" } },
  options: {
    ...EXPERIMENT_OPTIONS,
    ...INPUT_OPTIONS,
    all: { type: "boolean", describe: "List every file and package of its code" },
  },
  async run(args, context) {
    const { graph } = await context.experiment(args);
    const target = graph.get(String(args["node"]));
    await context.withStore({ create: false, look: true }, async (store) => {
      const [{ Planner, readNodeCode }, { flattenComponents }] = await Promise.all([
        import("../run/plan.ts"),
        import("../graph/key.ts"),
      ]);
      const part = graph.restrict([target]);
      const planner = new Planner(store, await readNodeCode(part, context.program.root));
      const planned = (await planner.plan(part)).find(({ node }) => node === target)!;
      const record = planned.record ?? await planner.previous(target.name);
      const components = planned.components ? [...flattenComponents(planned.components)] : [];
      if (context.json) return context.print(JSON.stringify(asJson(planned, components, record)));
      const shown = args["all"] === true ? components : foldComponents(components);
      context.print(asText(planned, shown, record), { hang: 4 });
    });
  },
};

type Components = readonly (readonly [string, string])[];

/** Files and packages as their number: what changed among them stands in the reasons. */
function foldComponents(components: Components): Components {
  const folded: [string, string][] = [];
  for (const [prefix, noun] of [["code.", "files"], ["package.", "packages"]] as const) {
    const count = components.filter(([name]) => name.startsWith(prefix)).length;
    if (count > 0) folded.push([prefix.slice(0, -1), `${count} ${noun} (--all lists them)`]);
  }
  const others = components.filter(([name]) => !/^(code|package)\./.test(name));
  return [...others, ...folded];
}

function asJson(planned: PlannedNode, components: Components, record: NodeRecord | undefined) {
  return {
    node: planned.node.name,
    stage: planned.node.stage.name,
    state: planned.state,
    key: planned.key ?? null,
    reasons: planned.reasons,
    components: Object.fromEntries(components),
    published: record === undefined ? null : {
      key: record.key,
      digest: record.digest,
      outputs: record.outputs,
      provenance: record.provenance,
    },
  };
}

function asText(
  planned: PlannedNode,
  components: Components,
  record: NodeRecord | undefined,
): string {
  const { node, state, key, reasons } = planned;
  const lines = [
    `${node.name} is ${state}${reasons.length > 0 ? ":" : "."}`,
    ...reasons.map((reason) => `  ${reason}`),
    `${node.stage.name}: ${node.stage.description}`,
    key === undefined ? "Its key is known once its inputs are published." : `Key ${key}, of`,
    ...components.map(([name, value]) => `  ${name} ${shorten(value)}`),
  ];
  if (record !== undefined) {
    const { started_at, seconds, run } = record.provenance;
    lines.push(
      `Published by run ${run}, ${started_at.slice(0, 19).replace("T", " ")} UTC, in ${
        seconds.toFixed(1)
      } s` +
        (record.key === key ? "" : `, under the key ${record.key}`),
      ...Object.entries(record.outputs).map(([name, output]) => `  ${name}: ${describe(output)}`),
    );
  }
  return lines.join("\n");
}

function shorten(value: string): string {
  return value.replace(/\b([0-9a-f]{12})[0-9a-f]{52}\b/g, "$1…").replace(
    /\b(sha512-.{12}).*/,
    "$1…",
  );
}

function describe(output: PublishedOutput): string {
  switch (output.kind) {
    case "json":
    case "measured": {
      const text = JSON.stringify(output.value);
      return text.length > 100 ? `${text.slice(0, 100)}…` : text;
    }
    case "file":
      return `${output.sha256.slice(0, 12)}…, ${formatBytes(output.size)}`;
    case "directory": {
      const bytes = output.files.reduce((sum, file) => sum + file.size, 0);
      return `${output.files.length} files, ${formatBytes(bytes)}`;
    }
  }
}
