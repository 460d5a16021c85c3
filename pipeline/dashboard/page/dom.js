// Makes elements. Text of the data is always text, never markup.

/** An element with properties (`class`, `for`, `aria-…` and other attributes, `on…` listeners) and children. */
export function el(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** The same for drawings. */
export function svg(tag, properties = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== undefined && child !== null));
  return element;
}

/** The element of the page with an id. */
export function by(id) {
  return document.getElementById(id);
}

/** A table with row headers in its first column. */
export function table(head, rows) {
  return el(
    "table",
    {},
    el("thead", {}, el("tr", {}, head.map((text) => el("th", { scope: "col" }, text)))),
    el(
      "tbody",
      {},
      rows.map(([first, ...cells]) =>
        el("tr", {}, el("th", { scope: "row" }, first), cells.map((cell) => el("td", {}, cell)))
      ),
    ),
  );
}

/** Replaces an element's children without losing the focus, which is found again by id. */
export function replace(element, ...children) {
  const focused = element.contains(document.activeElement) ? document.activeElement.id : "";
  const { scrollLeft, scrollTop } = element;
  element.replaceChildren(...children);
  element.scrollTo(scrollLeft, scrollTop);
  if (focused !== "") by(focused)?.focus({ preventScroll: true });
}

/** A number for people: six digits at most. */
export function format(number) {
  if (number === null || number === undefined || Number.isNaN(number)) return "–";
  const size = Math.abs(number);
  if (size !== 0 && (size < 1e-4 || size >= 1e7)) return number.toExponential(3);
  return String(Number(number.toPrecision(6)));
}

/** Seconds for people. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 100) return `${seconds.toFixed(1)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 120 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** The answer of the server, or an error with its words. */
export async function get(path, query = []) {
  const response = await fetch(`${path}?${new URLSearchParams(query)}`);
  const value = await response.json();
  if (!response.ok) throw new Error(value.error);
  return value;
}

const THEMES = ["system", "dark", "light"];

/** Work that runs once at a time: asked for while it runs, however often, it runs once more. */
export function oneAtATime(work) {
  let busy = false;
  let again = false;
  return async () => {
    again = true;
    if (busy) return;
    busy = true;
    try {
      while (again) {
        again = false;
        await work();
      }
    } finally {
      busy = false;
    }
  };
}

/** Has the button of the page change its colours; `changed` is called afterwards. */
export function themeButton(changed = () => {}) {
  let theme = "system";
  by("theme").addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    document.documentElement.dataset.theme = theme;
    by("theme").textContent = `Theme: ${theme}`;
    changed();
  });
}
