/** The explorer's page: its folders, its answers, and what Chromium makes of hostile findings. */

import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { Browser } from "../../../pipeline/dashboard/chromium_testing.ts";
import { MadeStore } from "../../../pipeline/dashboard/dashboard_testing.ts";
import { createHandler, serveDashboard } from "../../../pipeline/dashboard/server.ts";
import { UserError } from "../../../pipeline/errors.ts";
import { madeFindings, writeFolder } from "./findings_testing.ts";
import { shownFindings } from "./findings.ts";
import { ExplorerFolders } from "./folders.ts";
import { explorerPage } from "./page.ts";

const HOSTILE =
  `<img src=x onerror="document.title='taken'"><script>document.title='taken'</script>`;

async function inFolder(work: (root: string) => Promise<void>): Promise<void> {
  const root = await Deno.realPath(await Deno.makeTempDir());
  try {
    await work(root);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}

/** Asks the page's part of a dashboard. */
async function asker(root: string, given: readonly string[] = []) {
  const page = explorerPage(await ExplorerFolders.open(root, given), { title: "Toy" });
  const handle = createHandler({
    storeDir: join(root, "store"),
    port: 8377,
    title: "Toy",
    pages: [page],
    signal: new AbortController().signal,
  });
  return (path: string) =>
    handle(
      new Request(`http://127.0.0.1:8377${path}`, { headers: { host: "127.0.0.1:8377" } }),
    );
}

const listOf = async (ask: (path: string) => Promise<Response>) =>
  (await (await ask("/experts/list")).json()).folders as { id: string; name: string }[];

Deno.test("folders of results and those that are given are listed, and links are not followed", () =>
  inFolder(async (root) => {
    const other = join(root, "other");
    await writeFolder(join(root, "results", "deep", "experts"), madeFindings("a"));
    await writeFolder(join(root, "results", "tiny"), madeFindings("b"));
    await writeFolder(other, madeFindings("c"));
    await Deno.symlink(other, join(root, "results", "link"));
    const names = async (...given: string[]) =>
      (await listOf(await asker(root, given))).map(({ name }) => name);
    assertEquals((await names()).sort(), ["results/deep/experts", "results/tiny"]);
    const given = await names(other, join(root, "results", "tiny"));
    assertEquals(given, ["other", "results/tiny", "results/deep/experts"]);
    await Deno.remove(join(root, "results"), { recursive: true });
    assertEquals(await names(), []);

    const refused = async (folder: string, message: string) => {
      const error = await assertRejects(() => ExplorerFolders.open(root, [folder]), UserError);
      assertEquals([error.exitCode, error.message.includes("\n")], [2, false]);
      assertStringIncludes(error.message, message);
    };
    await refused(join(root, "none"), "holds no experts.json; expected a folder that `experts`");
    await Deno.writeTextFile(join(other, "experts.json"), "{");
    await refused(other, "experts.json is no JSON");
    await Deno.writeTextFile(join(other, "experts.json"), '{"format":"other"}');
    await refused(other, "experts.json: format:");
  }));

Deno.test("files come by the names that a folder has; no path leads out of it", () =>
  inFolder(async (root) => {
    const folder = join(root, "results", "tiny");
    await writeFolder(folder, madeFindings("a"));
    await Deno.writeTextFile(join(root, "secret.txt"), "secret");
    await Deno.writeTextFile(join(folder, "trace.parquet"), "rows");
    await Deno.symlink(join(root, "secret.txt"), join(folder, "report.md"));
    await Deno.symlink(join(root, "secret.txt"), join(folder, "figures", "link.svg"));
    const ask = await asker(root);
    const { id } = (await listOf(ask))[0]!;
    const { findings, files } = await (await ask(`/experts/findings?id=${id}`)).json();
    assertEquals(files, ["experts.json", "report.html", "figures/expert_map.svg"]);
    assertEquals(findings.promises.length, 10);
    const report = await ask(`/experts/files/${id}/report.html`);
    assertStringIncludes(report.headers.get("content-security-policy")!, "sandbox");
    assertStringIncludes(await report.text(), "Report");
    const figure = await ask(`/experts/files/${id}/figures/expert_map.svg`);
    assertEquals(figure.headers.get("content-type"), "image/svg+xml; charset=utf-8");
    await figure.body?.cancel();
    for (
      const path of [
        `/experts/files/${id}/..%2f..%2fsecret.txt`,
        `/experts/files/${id}/figures/..%2f..%2f..%2fsecret.txt`,
        `/experts/files/${id}/report.md`,
        `/experts/files/${id}/figures/link.svg`,
        `/experts/files/${id}/figures`,
        `/experts/files/${id}/`,
        `/experts/files/${id}/trace.parquet`,
        `/experts/files/${id}/%00`,
        "/experts/files/../../secret.txt",
        "/experts/files/0000000000000000/report.html",
        "/experts/findings?id=..%2f..",
        "/experts/findings",
        "/experts/page/..%2f..%2ffolders.ts",
        "/expertsx",
      ]
    ) {
      const answer = await ask(path);
      assertEquals(answer.status, 404, path);
      assert(!(await answer.text()).includes("secret"), path);
    }
    await Deno.writeTextFile(join(folder, "experts.json"), "[1]");
    const damaged = await ask(`/experts/findings?id=${id}`);
    assertEquals(damaged.status, 422);
    assertStringIncludes((await damaged.json()).error, "expected findings of `experts`, version 1");
  }));

Deno.test("findings of earlier versions are shown, and those whose lists do not fit are not", () => {
  const { used: _, token_texts: __, ...earlier } = madeFindings("a");
  const shown = shownFindings(earlier);
  assert(typeof shown !== "string");
  assertEquals([shown.used, shown.token_texts], [[], {}]);
  const short = structuredClone(madeFindings("a")) as { clusters: { map: { labels: number[] } }[] };
  short.clusters[0]!.map.labels.pop();
  assertStringIncludes(shownFindings(short) as string, "clusters.0.map");
});

Deno.test("the page finds experts by name and by token, with the keyboard, and takes no text for markup", async (t) => {
  await using store = await MadeStore.create("a");
  const folder = join(store.dir, "results", "tiny");
  await writeFolder(folder, madeFindings(HOSTILE));
  await writeFolder(join(store.dir, "results", "other"), madeFindings("other"));
  const stop = new AbortController();
  const page = explorerPage(await ExplorerFolders.open(store.dir, [folder]), { title: HOSTILE });
  const { url, finished } = serveDashboard({
    storeDir: store.dir,
    port: 0,
    title: HOSTILE,
    pages: [page],
    signal: stop.signal,
    poll: 50,
  });
  await using browser = await Browser.start();
  const rows = () =>
    browser.evaluate<string[]>(
      `[...document.querySelectorAll("#list tbody th")].map((th) => th.textContent)`,
    );
  const type = async (text: string) => {
    await browser.evaluate(`(() => {
      const search = document.getElementById("search");
      search.value = "";
      search.dispatchEvent(new Event("input"));
      search.focus();
    })()`);
    for (const letter of text) await browser.press(letter);
  };

  await t.step("the page of runs leads there, and from there back", async () => {
    await browser.open(url);
    await browser.until(`document.querySelector("#pages a")`);
    await browser.evaluate(`document.querySelector("#pages a").click()`);
    await browser.until(`location.pathname === "/experts" && document.querySelector("#list td")`);
    assertEquals(
      await browser.evaluate(`document.querySelector("#pages a").getAttribute("href")`),
      "/",
    );
  });

  await t.step("experts are found by name and by token", async () => {
    const all = ["10", "11", "12", "13"].flatMap((name) => [`1:${name}`, `2:${name}`]);
    assertEquals(await rows(), all);
    await type("2:1");
    assertEquals(await rows(), all.filter((name) => name.startsWith("2:")));
    await type("RIV");
    assertEquals(await rows(), ["1:12", "2:12"]);
    // A token of a context counts too, and the map shows what was found.
    await type("house");
    assertEquals(await rows(), ["1:10", "1:11"]);
    const pale = `document.querySelectorAll("#map .pale").length`;
    assertEquals(await browser.evaluate(pale), 2);
    await type("nothing");
    assertEquals(await rows(), []);
    assertStringIncludes(
      await browser.evaluate(`document.getElementById("list-note").textContent`),
      "No expert",
    );
  });

  await t.step("Enter shows the first that was found, and its texts are text", async () => {
    await type("1:10");
    await browser.press("Enter");
    assertEquals(await browser.evaluate(`document.activeElement.id`), "detail");
    const detail = await browser.evaluate<string>(`document.getElementById("detail").textContent`);
    for (const part of ["Expert 1:10", HOSTILE, "house", "changes by +0.20000", "1:12random"]) {
      assertStringIncludes(detail, part);
    }
    assertEquals(
      await browser.evaluate(`document.querySelector(".context").textContent`),
      `${HOSTILE}house↵`,
    );
    assertEquals(await browser.evaluate(`document.querySelectorAll("main img").length`), 1);
    assertEquals(await browser.evaluate(`document.title`), `Experts: ${HOSTILE}`);
    assertStringIncludes(await browser.evaluate(`location.hash`), "expert=1%3A10");
  });

  await t.step("arrows go over the map, and Enter shows an expert", async () => {
    await type("");
    await browser.evaluate(`document.querySelector("#map svg").focus()`);
    const here = () => browser.evaluate<string>(`document.getElementById("map-here").textContent`);
    await browser.press("ArrowRight");
    assertEquals(await here(), "1:10, cluster c0, 40 uses");
    await browser.press("ArrowRight");
    assertEquals(await here(), "1:11, cluster c0, 39 uses");
    await browser.press("ArrowUp");
    assertEquals(await here(), "1:12, cluster c1, 38 uses");
    await browser.press("ArrowUp");
    assertEquals(await here(), "1:12, cluster c1, 38 uses");
    await browser.press("Enter");
    assertEquals(
      await browser.evaluate(`document.getElementById("detail-title").textContent`),
      "Expert 1:12",
    );
    assertEquals(
      await browser.evaluate(`document.querySelector("[aria-current]").textContent`),
      "1:12",
    );
  });

  await t.step("another folder is shown, and the address leads to an expert", async () => {
    await browser.evaluate(`(() => {
      const folder = document.getElementById("folder");
      folder.selectedIndex = 1;
      folder.dispatchEvent(new Event("input"));
    })()`);
    await browser.until(`document.getElementById("facts").textContent.startsWith("other, ")`);
    const id = await browser.evaluate(`document.getElementById("folder").value`);
    await browser.open(`about:blank`);
    await browser.open(`${url}experts#id=${id}&expert=1:11`);
    await browser.until(`document.getElementById("detail-title")?.textContent === "Expert 1:11"`);
    assertStringIncludes(
      await browser.evaluate(`document.getElementById("facts").textContent`),
      "other, ",
    );
  });

  await t.step("every control and every region has a name, and no width is left", async () => {
    await browser.send("Accessibility.enable");
    const { nodes } = await browser.send("Accessibility.getFullAXTree") as {
      nodes: { ignored: boolean; role?: { value: string }; name?: { value: string } }[];
    };
    const named = ["button", "combobox", "searchbox", "link", "region", "application", "table"];
    const controls = nodes.filter(({ ignored, role }) =>
      !ignored && named.includes(role?.value ?? "")
    );
    assert(controls.length > 30, `${controls.length}`);
    assertEquals(controls.filter(({ name }) => (name?.value ?? "") === ""), []);
    for (const width of [1400, 390]) {
      await browser.picture(width, "dark");
      const over = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
      assertEquals(await browser.evaluate(over), 0, `${width}`);
    }
  });

  assertEquals(browser.complaints.filter((text) => /Policy|Trusted|Uncaught/.test(text)), []);
  stop.abort();
  await finished;
});
