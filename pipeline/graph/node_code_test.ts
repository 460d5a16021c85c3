/** Modules that a node loads because of its parameters: `train[rate=0.3]` of the toy loads `steep.ts`. */

import { assertEquals, assertStringIncludes } from "@std/assert";
import { type NodeRecord, Records } from "../store/records/records.ts";
import { all, modulesThatRan, states, type Summary, ToyProject } from "../testing.ts";

const MESSAGE =
  "steep.ts runs in train[rate=0.3] but is in no part of its key: name it in the stage's modules()";

/** Replaces a line of the toy's training. */
async function edit(toy: ToyProject, from: string, to: string): Promise<void> {
  const source = await Deno.readTextFile(toy.path("train.ts"));
  assertStringIncludes(source, from);
  await Deno.writeTextFile(toy.path("train.ts"), source.replace(from, to));
}

const NAMED = "modules: ({ params }) => params.rate > 0.2 ? [STEEP] : [],";

Deno.test("an edit of a module makes only the nodes stale that name it", async () => {
  await using toy = await ToyProject.create();
  assertEquals(states(await toy.json<Summary>("reproduce")), all("done"));
  await Deno.writeTextFile(toy.path("steep.ts"), "// A remark.\n", { append: true });
  interface Plan {
    readonly nodes: readonly { node: string; state: string; reasons: readonly string[] }[];
  }
  const { nodes } = await toy.json<Plan>("status");
  assertEquals(nodes.map(({ node, state, reasons }) => [node, state, ...reasons]), [
    ["numbers", "cached"],
    ["train[rate=0.1]", "cached"],
    ["train[rate=0.2]", "cached"],
    ["train[rate=0.3]", "stale", "code: steep.ts changed"],
    ["report", "waiting", "waits for train[rate=0.3]"],
  ]);
  const { stdout } = await toy.run("why", "train[rate=0.3]");
  assertStringIncludes(stdout, "code: steep.ts changed");
  assertEquals(states(await toy.json<Summary>("reproduce")), {
    ...all("cached"),
    "train[rate=0.3]": "done",
  });
});

Deno.test("a node fails before it loads a module that it does not name", async () => {
  await using toy = await ToyProject.create();
  await edit(toy, NAMED, "");
  const summary = await toy.json<Summary>("reproduce");
  assertEquals(summary.nodes.find(({ node }) => node === "train[rate=0.3]")?.error, MESSAGE);
  const failed = { ...all("done"), "train[rate=0.3]": "failed", report: "blocked" };
  assertEquals(states(summary), failed);
  assertEquals((await published(toy)).map(({ node }) => node).sort(), [
    "numbers",
    "train[rate=0.1]",
    "train[rate=0.2]",
  ]);
  await edit(toy, "  params: z.", `  ${NAMED}\n  params: z.`);
  assertEquals(states(await toy.json<Summary>("reproduce"))["train[rate=0.3]"], "done");
});

Deno.test("coverage finds a module that ran and is in no key", async (t) => {
  const cases = { "named, so none": [], "not named, nor asked for": ["steep.ts"] };
  for (const [name, expected] of Object.entries(cases)) {
    await t.step(name, async () => {
      await using toy = await ToyProject.create();
      if (expected.length > 0) {
        await edit(toy, NAMED, "");
        await edit(toy, "context.assertInKey(STEEP);", "");
      }
      const folder = toy.env["DENO_COVERAGE_DIR"] = toy.path("coverage");
      assertEquals((await toy.json<Summary>("reproduce")).state, "done");
      const ran = await modulesThatRan(folder, toy.dir);
      assertEquals(ran.includes("steep.ts"), true);
      const keyed = new Set(
        (await published(toy)).flatMap(({ components }) => Object.keys(components.code.files)),
      );
      const others = ran.filter((path) => !keyed.has(path));
      assertEquals(others, ["experiment.ts", "main.ts", ...expected]);
    });
  }
});

/** Manifests of all published nodes. */
async function published(toy: ToyProject): Promise<NodeRecord[]> {
  const records = new Records(toy.path(".ethos"), toy.path(".ethos", "tmp"));
  const nodes = (await records.nodeKeys()).map((key) => records.readNode(key));
  return (await Promise.all(nodes)).filter((node) => node !== undefined);
}
