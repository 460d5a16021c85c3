/** The dashboard beside a real run, each a process with the permissions of its task, in Chromium. */

import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { Browser } from "../pipeline/dashboard/chromium_testing.ts";
import { decodeRunEvent } from "../pipeline/executors/run_events.ts";
import { Records } from "../pipeline/store/records/records.ts";
import { decodeSamples } from "../pipeline/store/series/samples.ts";
import { fileExists } from "../pipeline/testing.ts";
import { Sandbox } from "./reproduce_testing.ts";

/** A port that was free a moment ago. */
function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return (listener.addr as Deno.NetAddr).port;
}

Deno.test("a run of the real experiment is watched to its end", async () => {
  await using sandbox = await Sandbox.create();
  const samples = ["--set", "train.sample_every=2", "--set", "train.sample_tokens=8"];
  const only = ["--only", "evaluate[base,seed=1]"];
  const run = sandbox.start("reproduce", ...only, "--json", ...samples);
  let ended = false;
  run.ended.then(() => ended = true);
  while (!await fileExists(`${sandbox.store}/store.json`)) {
    assert(!ended, run.stderr());
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const port = freePort();
  const dashboard = sandbox.start("dashboard", "--port", `${port}`);
  const url = `http://127.0.0.1:${port}/`;
  await using browser = await Browser.start();
  for (let tries = 0;; tries++) {
    try {
      await (await fetch(url)).body?.cancel();
      break;
    } catch (error) {
      if (tries > 100) throw new Error(dashboard.stderr(), { cause: error });
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
  await browser.open(url);
  const stateOf = (node: string) =>
    `document.querySelector('g[data-node="${node}"]')?.getAttribute("class")`;
  await browser.until(`${stateOf("train[base,seed=1]")} === "node running"`, 60_000);
  await browser.until(`document.getElementById("connection").textContent === "Ended"`, 60_000);
  assertEquals((await run.ended).code, 0, run.stderr());
  await browser.until(`${stateOf("evaluate[base,seed=1]")} === "node done"`);

  const families = `[...document.querySelectorAll(".panel")].map(({ dataset }) => dataset.family)`;
  await browser.until(`${families}.includes("loss") && ${families}.includes("expert_usage")`);
  const shown = await browser.evaluate<string[]>(families);
  assertEquals(shown.slice(0, 5), [
    "loss",
    "validation_nats",
    "lr",
    "grad_norm",
    "tokens_per_second",
  ]);
  for (const name of ["loss_scale", "memory_bytes", "expert_hottest"]) {
    assert(shown.includes(name), `${name} in ${shown}`);
  }
  // The curve's last number is that of the run's table.
  const rows = await sandbox.json<{ value: number }[]>(
    "sql",
    "SELECT value FROM metrics WHERE name = 'loss' ORDER BY step DESC LIMIT 1",
  );
  const last = await browser.evaluate<string>(
    `document.querySelector('[data-family="loss"] output .value').lastChild.textContent`,
  );
  assertEquals(Number(last), Number(rows[0]!.value.toPrecision(6)));

  // The newest text on the page is that of the file beside the checkpoint, and of the run's last event.
  const train = (await sandbox.records()).find(({ stage }) => stage === "train")!;
  const files = train.outputs["checkpoint"]!.kind === "directory"
    ? train.outputs["checkpoint"]!.files
    : [];
  const { sha256 } = files.find(({ path }) => path === "samples.jsonl")!;
  const kept = decodeSamples(await Deno.readTextFile(sandbox.object(sha256)));
  const steps = kept.map(({ step }) => step);
  assertEquals(steps, steps.toSorted((a, b) => a - b));
  assertEquals(new Set(steps).size, steps.length);
  const newest = `document.querySelector(".sample")?.firstChild.textContent`;
  await browser.until(`${newest} !== undefined`);
  assertEquals(await browser.evaluate(newest), kept.at(-1)!.text);
  const { run: name } = (await new Records(sandbox.store, "").readRuns())[0]!;
  const events = (await Deno.readTextFile(join(sandbox.store, "runs", `${name}.jsonl`)))
    .split("\n").flatMap((line) => decodeRunEvent(line) ?? []);
  const told = events.flatMap((event) => event.type === "sample" ? [event] : []);
  assertEquals(told.map(({ step, text }) => [step, text]), kept.map((s) => [s.step, s.text]));
  assert(!run.stderr().includes(kept[0]!.text.slice(0, 6)) || kept[0]!.text.length < 6);

  for (const axis of ["tokens", "time"]) {
    await browser.evaluate(`(() => {
      const axis = document.getElementById("axis");
      axis.value = "${axis}";
      axis.dispatchEvent(new Event("input"));
    })()`);
    const asked = `({ name }) => name.includes("axis=${axis}")`;
    await browser.until(`performance.getEntriesByType("resource").some(${asked})`);
  }
  assertEquals(await browser.evaluate(`document.getElementById("curves-note").textContent`), "");
  for (const width of [1400, 390]) {
    await browser.picture(width, "dark");
    const over = await browser.evaluate<number>(
      "document.documentElement.scrollWidth - document.documentElement.clientWidth",
    );
    assertEquals(over, 0, `${width}`);
  }
  assertEquals(browser.complaints.filter((text) => /Policy|Trusted|Uncaught/.test(text)), []);
  dashboard.kill("SIGTERM");
  assertEquals((await dashboard.ended).code, 0);
});
