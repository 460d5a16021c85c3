// The page: which folder of experts is seen, and which expert of it.

import { by, el, get, replace, themeButton } from "../../../../pipeline/dashboard/page/dom.js";
import { showDetail } from "./details.js";
import { ExpertList, joinExperts } from "./list.js";
import { CodeMap } from "./map.js";
import { count, showTables } from "./tables.js";

let folders = [];
let found;
let experts = new Map();
let chosen = "";

const list = new ExpertList({
  choose: (name) => choose(name, true),
  searched: (names) => map.emphasise(names),
});
const map = new CodeMap({ choose: (name) => choose(name, true) });

const urlOf = (id, name) =>
  ["/experts/files", id, ...name.split("/")]
    .map((part, i) => i === 0 ? part : encodeURIComponent(part)).join("/");

function complain(error) {
  by("connection").textContent = error.message;
}

/** Keeps the folder and the expert in the address, so that both can be handed on. */
function remember() {
  const state = new URLSearchParams({ id: by("folder").value });
  if (chosen !== "") state.set("expert", chosen);
  history.replaceState(null, "", `#${state}`);
}

/** Shows an expert; the focus goes there when the user asked for it. */
function choose(name, focus = false) {
  const expert = experts.get(name);
  chosen = expert === undefined ? "" : name;
  showDetail(expert, found, (other) => choose(other, true));
  list.mark(chosen);
  map.mark(chosen);
  remember();
  if (focus && expert !== undefined) by("detail").focus();
}

async function see(id, expert = "") {
  by("found").hidden = true;
  by("connection").textContent = "Loading";
  const answer = await get("/experts/findings", [["id", id]]);
  // Another one was chosen meanwhile.
  if (by("folder").value !== id) return;
  found = answer.findings;
  experts = joinExperts(found);
  by("connection").textContent = "";
  const { checkpoint, kind, predictions, text, gpu, seed, controls } = found;
  const read = text.length === 1 ? text[0] : `${text.length} files`;
  by("facts").textContent =
    `${checkpoint}, a model of kind ${kind}, on ${count(predictions)} predictions of ${read}, ` +
    `with ${controls} controls beside each finding and the seed ${seed}, on ${gpu.adapter}.`;
  const pages = answer.files.filter((name) => !name.includes("/"));
  replace(
    by("files"),
    ...pages.map((name) => el("li", {}, el("a", { href: urlOf(id, name) }, name))),
  );
  const figures = answer.files.filter((name) => name.endsWith(".svg"));
  replace(
    by("figures"),
    ...figures.map((path) => {
      const url = urlOf(id, path);
      const name = path.split("/").at(-1).replace(/\.svg$/, "");
      const picture = el("img", { src: url, alt: "", loading: "lazy" });
      return el("li", {}, el("a", { href: url }, picture, el("span", {}, name)));
    }),
  );
  showTables(found, { choose: (name) => choose(name, true), known: (name) => experts.has(name) });
  by("found").hidden = false;
  map.show(found, experts);
  list.show(found, experts);
  choose(expert);
}

async function begin() {
  const answer = await get("/experts/list");
  folders = answer.folders;
  by("title").textContent = `Experts: ${answer.title}`;
  document.title = `Experts: ${answer.title}`;
  replace(by("folder"), ...folders.map(({ id, name }) => el("option", { value: id }, name)));
  if (folders.length === 0) {
    by("facts").textContent =
      "There are none yet: experts --checkpoint … --out results/experts makes a folder, and --experts shows one from elsewhere.";
    by("folder-controls").hidden = true;
    return;
  }
  const asked = new URLSearchParams(location.hash.slice(1));
  const id = folders.some((folder) => folder.id === asked.get("id"))
    ? asked.get("id")
    : folders[0].id;
  by("folder").value = id;
  await see(id, asked.get("expert") ?? "");
}

themeButton();
by("folder").addEventListener("input", () => see(by("folder").value).catch(complain));
for (const id of ["folder-controls", "expert-controls", "map-controls"]) {
  by(id).addEventListener("submit", (event) => event.preventDefault());
}
begin().catch(complain);
