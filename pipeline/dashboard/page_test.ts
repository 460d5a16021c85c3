/** The page in Chromium: hostile names, a million points, keyboard, names for a screen reader, a lost connection. */

import { assert, assertEquals } from "@std/assert";
import { Browser } from "./chromium_testing.ts";
import { MadeStore } from "./dashboard_testing.ts";
import { serveDashboard } from "./server.ts";

const HOSTILE =
  `<img src=x onerror="document.title='taken'"><script>document.title='taken'</script>`;

/** A server that the test stops and starts again at one port. */
function served(storeDir: string, port: number) {
  const stop = new AbortController();
  const options = { storeDir, port, title: HOSTILE, signal: stop.signal, poll: 50 };
  const { url, finished } = serveDashboard({ ...options, hints: { first: ["loss"] } });
  const end = async () => {
    stop.abort();
    await finished;
  };
  return { url, port: Number(new URL(url).port), end };
}

Deno.test("the page shows what happens, and takes no name for markup", async (t) => {
  await using store = await MadeStore.create(HOSTILE);
  using _ = await store.hold();
  const count = 1_000_000;
  const lines = Array.from({ length: count }, (_, i) => `d,${i},loss,${Math.sin(i)}\n`);
  // Two of a million, which every picture must show.
  lines[123_456] = "d,123456,loss,50\n";
  lines[777_777] = "d,777777,loss,-50\n";
  const names = `d,1,${HOSTILE.replaceAll('"', "'")},1\nd,2,${HOSTILE.replaceAll('"', "'")},2\n`;
  const usage = [0, 1, 2].flatMap((layer) => [`m,1,use.${layer},1\n`, `m,2,use.${layer},2\n`]);
  await Deno.writeTextFile(store.metrics, [...lines, names, ...usage].join(""));
  let server = served(store.dir, 0);
  await using browser = await Browser.start();
  await browser.open(server.url);

  await t.step("a million points are there, and the extreme ones among them", async () => {
    const panel = `document.querySelector('[data-family="loss"]')`;
    await browser.until(`${panel}?.querySelector("canvas")`);
    assertEquals(
      await browser.evaluate(`${panel}.querySelector("figcaption").textContent`),
      "loss",
    );
    const path = `/api/curves?key=${store.key}&name=loss&columns=600`;
    const { loss } = await (await fetch(new URL(path, server.url))).json();
    assert(loss.x.length <= 1204);
    assertEquals([Math.max(...loss.y), Math.min(...loss.y)], [50, -50]);
    // Drawing it anew takes a frame, not a second.
    const slowest = await browser.evaluate<number>(`(async () => {
      const over = ${panel}.querySelector(".u-over");
      let slowest = 0;
      for (let i = 0; i < 30; i++) {
        const began = performance.now();
        const at = { clientX: over.getBoundingClientRect().left + 5 * i, clientY: 300 };
        over.dispatchEvent(new MouseEvent("mousemove", { ...at, bubbles: true }));
        await new Promise(requestAnimationFrame);
        slowest = Math.max(slowest, performance.now() - began);
      }
      return slowest;
    })()`);
    assert(slowest < 1000, `${slowest} ms`);
  });

  await t.step("names are text", async () => {
    await browser.until(`document.querySelector("#log li")`);
    const title = await browser.evaluate(
      `document.title + document.querySelector("h1").textContent`,
    );
    assertEquals(title, HOSTILE + HOSTILE);
    for (const id of ["graph", "nodes", "log", "key", "values"]) {
      const text = await browser.evaluate<string>(`document.getElementById("${id}").textContent`);
      assert(text.includes("<img src=x"), `${id}: ${text}`);
    }
    const made = "img, #log script, #graph script, #nodes script, #panels script, #key script";
    assertEquals(
      await browser.evaluate(`document.querySelectorAll(${JSON.stringify(made)}).length`),
      0,
    );
  });

  await t.step("layers share a panel", async () => {
    const families = await browser.evaluate<string[]>(
      `[...document.querySelectorAll(".panel")].map((panel) => panel.dataset.family)`,
    );
    assertEquals([families[0], families.filter((family) => family === "use").length], ["loss", 1]);
  });

  await t.step("samples come as they are written, newest first, and are text", async () => {
    assertEquals(await browser.evaluate(`document.getElementById("samples").hidden`), true);
    for (let step = 1; step <= 12; step++) {
      const text = step === 12 ? HOSTILE : `text ${step}`;
      await store.sample(10 * step, [{ prompt: "", text }, { prompt: HOSTILE, text: "b\n c" }]);
    }
    const steps = "document.querySelectorAll('#sample-steps tbody th')";
    await browser.until(`${steps}.length === 20 && ${steps}[0].textContent === "120"`);
    const cells = await browser.evaluate<string[]>(
      `[...document.querySelectorAll(".sample")].slice(0, 2).map((p) => p.textContent)`,
    );
    assertEquals(cells, [HOSTILE, `${HOSTILE}b\n c`]);
    assertEquals(await browser.evaluate(`document.querySelectorAll(".sample img").length`), 0);
    await browser.evaluate(`document.getElementById("sample-more").focus()`);
    await browser.press(" ");
    await browser.until(`${steps}.length === 24`);
    assertEquals(await browser.evaluate(`document.getElementById("sample-more").hidden`), true);
    await browser.evaluate(`(() => {
      const select = document.getElementById("sample-prompt");
      select.selectedIndex = 2;
      select.dispatchEvent(new Event("input"));
    })()`);
    await browser.until(`${steps}.length === 12`);
    await store.sample(130, [{ prompt: "", text: "new" }, { prompt: HOSTILE, text: "newest" }]);
    await browser.until(`document.querySelector(".sample").textContent.endsWith("newest")`);
  });

  await t.step("the keyboard reads points and zooms", async () => {
    const panel = `document.querySelector('[data-family="loss"]')`;
    const readout = () => browser.evaluate<string>(`${panel}.querySelector("output").textContent`);
    await browser.evaluate(`${panel}.focus()`);
    await browser.press("Home");
    assert((await readout()).startsWith("at 0: "), await readout());
    await browser.press("ArrowRight");
    assert(!(await readout()).startsWith("at 0: "), await readout());
    const asked =
      `performance.getEntriesByType("resource").some(({ name }) => name.includes("from="))`;
    assertEquals(await browser.evaluate(asked), false);
    await browser.press("+");
    await browser.until(asked);
  });

  await t.step("every control and every region has a name", async () => {
    await browser.send("Accessibility.enable");
    const { nodes } = await browser.send("Accessibility.getFullAXTree") as {
      nodes: { ignored: boolean; role?: { value: string }; name?: { value: string } }[];
    };
    const named = [
      "button",
      "checkbox",
      "combobox",
      "searchbox",
      "slider",
      "link",
      "region",
    ];
    const controls = nodes.filter(({ ignored, role }) =>
      !ignored && named.includes(role?.value ?? "")
    );
    assert(controls.length > 12, `${controls.length}`);
    assertEquals(controls.filter(({ name }) => (name?.value ?? "") === ""), []);
  });

  await t.step("a page whose server is gone for a while misses nothing", async () => {
    const lines = `document.getElementById("log").textContent`;
    await store.append({ type: "line", text: "before" });
    await browser.until(`${lines}.includes("before")`);
    await server.end();
    await browser.until(`document.getElementById("connection").textContent.includes("lost")`);
    await store.append({ type: "line", text: "meanwhile" });
    server = served(store.dir, server.port);
    await browser.until(`${lines}.includes("meanwhile")`);
    const before = await browser.evaluate<string>(lines);
    assertEquals(before.split("before").length, 2);
    await store.append(
      { type: "node", node: HOSTILE, state: "failed", key: store.key, error: "No more" },
      { type: "finish", state: "failed", results: [], files: [], problems: ["Full"] },
    );
    await store.record("failed");
    await browser.until(`document.getElementById("connection").textContent === "Ended"`);
    await browser.until(`document.querySelector("#nodes .state.failed")`);
    await browser.until(`${lines}.includes("Full")`);
  });

  await t.step("and no policy was broken", () => {
    const broken = browser.complaints.filter((text) =>
      /Security Policy|Trusted|Uncaught/.test(text)
    );
    assertEquals(broken, []);
  });
  await server.end();
});
