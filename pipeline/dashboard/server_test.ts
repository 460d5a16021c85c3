import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { UserError } from "../errors.ts";
import { StoreLock } from "../store/locks/lock.ts";
import { fileExists, ToyProject } from "../testing.ts";
import { runLoad } from "./load_testing.ts";
import { MadeStore, type Message, readUntil } from "./dashboard_testing.ts";
import { createHandler, type DashboardOptions, serveDashboard } from "./server.ts";

const PORT = 8377;

/** Asks a handler as a browser does. */
function asker(storeDir: string, options: Partial<DashboardOptions> = {}) {
  const handle = createHandler({
    storeDir,
    port: PORT,
    title: "Toy",
    signal: new AbortController().signal,
    poll: 20,
    ...options,
  });
  return (path: string, init: RequestInit = {}) =>
    handle(
      new Request(`http://127.0.0.1:${PORT}${path}`, {
        ...init,
        headers: { host: `127.0.0.1:${PORT}`, ...init.headers as Record<string, string> },
      }),
    );
}

async function jsonOf<T>(response: Promise<Response>): Promise<T> {
  return await (await response).json();
}

Deno.test("answers come to loopback's names alone, to GET alone, with a policy that lets nothing in", async () => {
  await using store = await MadeStore.create("a");
  const ask = asker(store.dir);
  const page = await ask("/");
  assertEquals(page.status, 200);
  assertStringIncludes(await page.text(), "<title>Dashboard</title>");
  const policy = page.headers.get("content-security-policy")!;
  assertStringIncludes(policy, "default-src 'none'; script-src 'self'; style-src 'self'");
  assertStringIncludes(policy, "require-trusted-types-for 'script'");
  assert(!policy.includes("unsafe"), policy);
  for (const path of ["/", "/page/app.js", "/page/uplot.js", "/api/runs", "/nothing"]) {
    const { headers, body } = await ask(path);
    await body?.cancel();
    assertStringIncludes(headers.get("content-security-policy")!, "default-src 'none'");
    assertEquals(headers.get("x-content-type-options"), "nosniff");
    assertEquals(headers.get("access-control-allow-origin"), null);
  }
  for (const host of ["evil.example", `evil.example:${PORT}`, "127.0.0.1", "127.0.0.1:1", ""]) {
    const answer = await ask("/api/runs", { headers: { host } });
    assertEquals(answer.status, 403, host);
    assert(!(await answer.text()).includes("evil"));
  }
  assertEquals((await ask("/", { headers: { host: `localhost:${PORT}` } })).status, 200);
  for (const method of ["POST", "PUT", "DELETE", "OPTIONS"]) {
    const answer = await ask("/api/runs", { method });
    assertEquals([answer.status, answer.headers.get("allow")], [405, "GET, HEAD"]);
  }
  // Nothing on the page or in its parts refers to another host.
  for (const path of ["/", "/page/app.js", "/page/dashboard.css", "/page/curves.js"]) {
    const text = await (await ask(path)).text();
    assert(!/(https?:)?\/\/[a-z0-9.]+\.[a-z]/.test(text.replaceAll("http://www.w3.org", "")), path);
  }
});

Deno.test("bad queries are one sentence; no path leads out of what nodes published", async () => {
  await using store = await MadeStore.create("a");
  const ask = asker(store.dir);
  const refused: Record<string, string> = {
    "/api/layout?run=../../etc/passwd": "run is none",
    "/api/layout?run=20260412-101500-999": "There is no run",
    "/api/events?run=..%2fx": "run is none",
    "/api/events": "run is none",
    "/api/node?key=../x": "key is none",
    [`/api/curves?key=${store.key}&axis=height`]: "axis is none",
    [`/api/curves?key=${store.key}&smoothing=1`]: "smoothing is no number from 0 to 0.9999",
    [`/api/curves?key=${store.key}&columns=0`]: "columns is no number from 1 to 4000",
    [`/api/curves?key=${store.key}&from=x`]: "from is no number",
    "/files/../../../etc/passwd": "There is nothing here",
    [`/files/${store.key}/..%2f..%2fstore.json`]: "No node has published such a file",
    "/files/%ff": "The path is no text",
    "/page/..%2fserver.ts": "There is nothing here",
    "/page/server.ts": "There is nothing here",
  };
  for (const [path, message] of Object.entries(refused)) {
    const answer = await ask(path);
    assert(answer.status === 400 || answer.status === 404, path);
    assertStringIncludes((await answer.json()).error, message, path);
  }
});

Deno.test("a stream goes on behind the last event that a page has, and says when there is another file", async () => {
  await using store = await MadeStore.create("a");
  using _ = await store.hold();
  const ask = asker(store.dir);
  const path = `/api/events?run=${store.run}`;
  const isLine = (text: string) => ({ data }: Message) => data["text"] === text;
  const first = await readUntil(await ask(path), isLine("a"));
  assertEquals(first.map(({ event, data }) => data["type"] ?? event), [
    "reset",
    "graph",
    "node",
    "line",
  ]);
  const last = first.at(-1)!.id!;
  assertEquals(Number(last), (await Deno.stat(store.events)).size);

  await store.append({ type: "line", text: "meanwhile" });
  const headers = { "last-event-id": last };
  const second = await readUntil(await ask(path, { headers }), isLine("meanwhile"));
  assertEquals(second.filter(({ event }) => event === "message").length, 1);

  // A line that is being written is not sent before its end.
  await Deno.writeTextFile(store.events, '{"at":1,"type":"line",', { append: true });
  const third = ask(path, { headers: { "last-event-id": second.at(-1)!.id! } });
  setTimeout(() => Deno.writeTextFileSync(store.events, '"text":"whole"}\n', { append: true }), 60);
  assertEquals((await readUntil(await third, isLine("whole"))).filter((m) => m.id).length, 1);

  await Deno.writeTextFile(store.events, '{"at":1,"type":"line","text":"other"}\n');
  const fourth = await readUntil(await ask(path, { headers }), isLine("other"));
  assertEquals(fourth.some(({ event }) => event === "reset"), true);
  for (const odd of ["x", "1,2", "-1", "9".repeat(40)]) {
    const answer = await ask(path, { headers: { "last-event-id": odd } });
    assertEquals((await readUntil(answer, isLine("other")))[0]!.event, "reset", odd);
  }
});

Deno.test("superfluous counts are left out at first, and a bar that is there is sent", async () => {
  await using store = await MadeStore.create("a");
  await store.append({ type: "bar", id: 1, node: "a", total: 9, unit: "steps" });
  for (let done = 1; done < 9; done++) await store.append({ type: "progress", id: 1, done });
  await store.append({ type: "bar", id: 2, node: "a", total: 9, unit: "" }, {
    type: "stop",
    id: 2,
  });
  for (let i = 0; i < 300; i++) await store.append({ type: "line", text: `${i}` });
  await store.record("done");
  const answer = await asker(store.dir)(`/api/events?run=${store.run}`);
  const messages = await readUntil(answer, ({ event }) => event === "over");
  const of = (type: string) => messages.flatMap(({ data }) => data["type"] === type ? [data] : []);
  assertEquals(of("bar").map(({ id }) => id), [1]);
  assertEquals(of("progress").map(({ done }) => done), [8]);
  assertEquals([of("line").length, of("line").at(-1)!["text"]], [200, "299"]);
});

Deno.test("a run whose process is gone is killed, and one whose store is held runs", async () => {
  await using store = await MadeStore.create("a");
  const states = async () =>
    (await jsonOf<{ runs: { state: string }[] }>(asker(store.dir)("/api/runs"))).runs
      .map(({ state }) => state);
  assertEquals(await states(), ["killed"]);
  {
    await using _ = await StoreLock.acquire(join(store.dir, "lock"), "reproduce");
    assertEquals(await states(), ["running"]);
    const answer = await asker(store.dir)(`/api/events?run=${store.run}`);
    await readUntil(answer, ({ data }) => data["state"] === "running" && !("key" in data));
  }
  const answer = await asker(store.dir)(`/api/events?run=${store.run}`);
  const last = (await readUntil(answer, ({ event }) => event === "over")).at(-2)!;
  assertEquals([last.event, last.data["state"]], ["state", "killed"]);
});

Deno.test("curves grow with their file, forget what a rewind forgot, and pass over a line that is cut short", async () => {
  await using store = await MadeStore.create("a");
  const hints = { tokens: "tokens", step_seconds: "each" };
  const ask = asker(store.dir, { hints });
  const curve = async (name: string, more = "") =>
    (await jsonOf<Record<string, { x: number[]; y: number[] }>>(
      ask(`/api/curves?key=${store.key}&name=${name}${more}`),
    ))[name];
  assertEquals(await curve("loss"), { x: [], y: [] });
  await Deno.writeTextFile(store.metrics, "d,1,loss,3\nd,1,tokens,10\nm,1,each,2\nd,2,lo");
  assertEquals(await curve("loss"), { x: [1], y: [3] });
  await Deno.writeTextFile(store.metrics, "ss,2\nd,3,loss,\nd,4,loss,1\n", { append: true });
  assertEquals(await curve("loss"), { x: [1, 2, 4], y: [3, 2, 1] });
  assertEquals((await curve("loss", "&axis=tokens"))!.x, [10, 20, 40]);
  assertEquals((await curve("loss", "&axis=time"))!.x, [2, 4, 8]);
  await Deno.writeTextFile(`${store.metrics}.new`, "d,1,loss,3\nd,2,loss,2.5\n");
  await Deno.rename(`${store.metrics}.new`, store.metrics);
  assertEquals(await curve("loss"), { x: [1, 2], y: [3, 2.5] });
  const { axes, metrics } = await jsonOf<{ axes: string[]; metrics: unknown[] }>(
    ask(`/api/node?key=${store.key}`),
  );
  assertEquals(axes, ["step"]);
  assertEquals(metrics, [{ name: "loss", points: 2, step: 2, value: 2.5 }]);
});

Deno.test("samples come newest first and in parts, each once, and grow with their file", async () => {
  await using store = await MadeStore.create("a");
  const ask = asker(store.dir);
  const steps = async (more = "") => {
    const answer = await jsonOf<
      { steps: { step: number; samples: { text: string }[] }[]; more: boolean }
    >(ask(`/api/samples?key=${store.key}${more}`));
    const texts = answer.steps.map(({ step, samples }) => [step, ...samples.map((s) => s.text)]);
    return { texts, more: answer.more };
  };
  assertEquals(await steps(), { texts: [], more: false });
  for (const step of [2, 4, 6]) {
    await store.sample(step, [{ prompt: "", text: `${step}a` }, { prompt: "p", text: `${step}b` }]);
  }
  assertEquals(await steps("&limit=2"), {
    texts: [[6, "6a", "6b"], [4, "4a", "4b"]],
    more: true,
  });
  assertEquals(await steps("&limit=2&before=4"), { texts: [[2, "2a", "2b"]], more: false });
  // A training that was killed wrote a step, and the file of its resume has it anew.
  await Deno.writeTextFile(store.samples, '{"step":8,"ind', { append: true });
  await store.sample(6, [{ prompt: "", text: "again" }]);
  assertEquals((await steps("&limit=1")).texts, [[6, "6a", "6b"]]);
  await store.sample(6, [{ prompt: "", text: "again" }]);
  assertEquals((await steps("&limit=1")).texts, [[6, "again", "6b"]]);
  const { samples } = await jsonOf<{ samples: unknown }>(ask(`/api/node?key=${store.key}`));
  assertEquals(samples, { steps: 3, step: 6 });
  for (const limit of ["0", "51", "x"]) {
    assertEquals((await ask(`/api/samples?key=${store.key}&limit=${limit}`)).status, 400);
  }
  // A page that opens is told once that there are some.
  await store.record("done");
  const answer = await ask(`/api/events?run=${store.run}`);
  const messages = await readUntil(answer, ({ event }) => event === "over");
  assertEquals(messages.filter(({ data }) => data["type"] === "sample").length, 1);
});

Deno.test("a run is watched while it has the store, with both executors, and after it", async (t) => {
  for (const executor of ["inline", "process"]) {
    await t.step(executor, async () => {
      await using toy = await ToyProject.create();
      const sets = ["--set", "steps=25", "--set", "milliseconds=120"];
      const only = ["--only", "train[rate=0.1]"];
      const child = toy.spawn("reproduce", "--executor", executor, ...only, ...sets);
      const output = child.output();
      const storeDir = toy.path(".ethos");
      const ask = asker(storeDir);
      let run: string | undefined;
      let ended = false;
      output.then(() => ended = true);
      while (run === undefined) {
        assert(!ended, "The run ended before it was seen.");
        await new Promise((resolve) => setTimeout(resolve, 50));
        if (!await fileExists(toy.path(".ethos", "store.json"))) continue;
        run = (await jsonOf<{ runs: { run: string }[] }>(ask("/api/runs"))).runs[0]?.run;
      }
      const answer = await ask(`/api/events?run=${run}`);
      let grown = 0;
      let counted = 0;
      let key = "";
      const messages = await readUntil(answer, ({ event, data }) => {
        if (data["type"] === "progress") counted++;
        if (data["node"] === "train[rate=0.1]") key = String(data["key"] ?? key);
        if (event === "metrics" && data["key"] === key) grown++;
        return event === "over";
      });
      assertEquals((await output).success, true);
      const ends = messages.flatMap(({ data }) =>
        data["type"] === "node" && data["state"] === "done" ? [data["node"]] : []
      );
      assertEquals(ends, ["numbers", "train[rate=0.1]"]);
      assert(counted >= 3, `${counted} counts`);
      // A training of three seconds flushes each second, and is published.
      assert(grown >= 3, `${grown} times`);
      const lines = messages.flatMap(({ data }) => data["type"] === "line" ? [data["text"]] : []);
      assert(lines.includes("numbers: runs (never ran)"), lines.join("\n"));
      assertEquals(messages.find(({ data }) => data["type"] === "finish")!.data["state"], "done");

      const path = `/api/curves?key=${key}&name=loss`;
      const { loss } = await jsonOf<{ loss: { x: number[] } }>(ask(path));
      assertEquals(loss.x.length, 25);
      if (executor === "process") return;
      const file = await ask(`/files/${key}/checkpoint/deep/total.txt`);
      assertStringIncludes(file.headers.get("content-security-policy")!, "sandbox");
      assertStringIncludes(file.headers.get("content-type")!, "text/plain");
      assert(Number(await file.text()) > 0);
      const { nodes: boxes } = await jsonOf<{ nodes: unknown[] }>(ask(`/api/layout?run=${run}`));
      assertEquals(boxes.length, 2);
      // The events of earlier versions are in no file; a record says how it went.
      await Deno.remove(join(storeDir, "runs", `${run}.jsonl`));
      const again = await readUntil(
        await ask(`/api/events?run=${run}`),
        ({ event }) => event === "over",
      );
      assertEquals(again.filter(({ data }) => data["state"] === "done" && data["node"]).length, 2);
    });
  }
});

Deno.test("32 pages are told everything, in order, and leave nothing behind", async () => {
  await using store = await MadeStore.create("a");
  using _ = await store.hold();
  const stop = new AbortController();
  const options = { storeDir: store.dir, title: "x", signal: stop.signal, poll: 20 };
  const { url, finished } = serveDashboard({ ...options, port: 0 });
  const path = `${url}api/events?run=${store.run}`;
  const { wrong, events, latencies } = await runLoad(store, { url, pages: 32, seconds: 1 });
  assertEquals(wrong, []);
  assert(events > 0);
  assertEquals(latencies.event.count, 32 * events);
  assert(latencies.curve.count >= 32);
  // Those that have gone give their places back: 128 more find room.
  await new Promise((resolve) => setTimeout(resolve, 200));
  for (let i = 0; i < 4; i++) {
    const more = Array.from({ length: 32 }, () => fetch(path));
    for (const answer of await Promise.all(more)) {
      assertEquals(answer.status, 200);
      await readUntil(answer, ({ data }) => data["type"] === "graph");
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  stop.abort();
  await finished;
});

Deno.test("a port in use is one line; streams end with the server", async () => {
  await using store = await MadeStore.create("a");
  using _ = await store.hold();
  const stop = new AbortController();
  const options = { storeDir: store.dir, title: "x", signal: stop.signal, poll: 20 };
  const { url, finished } = serveDashboard({ ...options, port: 0 });
  const port = Number(new URL(url).port);
  try {
    serveDashboard({ ...options, port });
    throw new Error("It took a port in use.");
  } catch (error) {
    assert(error instanceof UserError, String(error));
    assertStringIncludes(error.message, `Port ${port} of 127.0.0.1 is in use`);
  }
  const path = `${url}api/events?run=${store.run}`;
  await readUntil(await fetch(path), ({ data }) => data["type"] === "graph");
  const open = (await fetch(path)).text().catch(() => "cut");
  stop.abort();
  await finished;
  await open;
});
