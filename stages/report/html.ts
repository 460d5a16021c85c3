/**
 * The report as one self-contained page: style, script, typeface and drawings inside, no network. Works from `file://`,
 * follows the system's colour scheme, prints.
 *
 * @module
 */

import type { Element, ElementContent, Root } from "hast";
import { toHtml } from "hast-util-to-html";
import { h } from "hastscript";
import { toHast } from "mdast-util-to-hast";
import { fontFaceRules } from "./figures/fonts.ts";
import { COLOR, DARK } from "./figures/style.ts";
import type { Block, FigureBlock, Prose, Report, TableBlock } from "./document.ts";
import css from "./page.css" with { type: "text" };
import script from "./page.js" with { type: "text" };

/** Tables larger than this are linked, not embedded. */
const EMBED_LIMIT = 200_000;

/** Renders the whole report. */
export async function renderHtml(report: Report): Promise<string> {
  const scripts = await digest(script);
  const page = h(null, [
    { type: "doctype" },
    h("html", { lang: "en" }, [
      h("head", [
        h("meta", { charSet: "utf-8" }),
        h("meta", { name: "viewport", content: "width=device-width, initial-scale=1" }),
        h("meta", { name: "color-scheme", content: "light dark" }),
        h("meta", {
          httpEquiv: "Content-Security-Policy",
          content:
            `default-src 'none'; style-src 'unsafe-inline'; font-src data:; img-src data:; script-src '${scripts}'`,
        }),
        h("title", report.title),
        raw("style", [fontFaceRules(), css, darkRules()].join("\n")),
      ]),
      h("body", [
        h("button", { className: ["theme"], type: "button", hidden: true }, "theme: auto"),
        h("div", { className: ["layout"] }, [
          h("header", [h("h1", report.title), ...prose(report.lead)]),
          contents(report),
          h(
            "main",
            report.sections.map((section) =>
              h("section", { id: section.id, ariaLabelledBy: `${section.id}-title` }, [
                h("h2", { id: `${section.id}-title` }, section.title),
                ...section.blocks.flatMap(block),
              ])
            ),
          ),
          h("footer", prose(report.colophon)),
        ]),
        raw("script", script),
      ]),
    ]),
  ]);
  return toHtml(page as Root, { allowDangerousHtml: true }) + "\n";
}

/** Content security: only the page's own script runs, even if text should ever slip through as markup. */
async function digest(text: string): Promise<string> {
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return `sha256-${new Uint8Array(hash).toBase64()}`;
}

/** An element whose text is code of this project: style, script or a drawing. */
function raw(
  tag: string,
  text: string,
  properties: Record<string, string | string[]> = {},
): Element {
  return h(tag, properties, [{ type: "raw", value: text } as unknown as ElementContent]);
}

/** Dark colours for the page and, by exact value, for everything drawn in the figures. */
function darkRules(): string {
  const rules = (scope: string) => {
    const page = `${scope}{--ink:${DARK[COLOR.ink]};--muted:${DARK[COLOR.muted]};--line:${
      DARK[COLOR.grid]
    };--paper:${DARK[COLOR.paper]};--soft:#1c2228;--link:#7cc4f2}`;
    const drawings = Object.entries(DARK).flatMap(([light, dark]) => [
      `${scope} figure svg [fill="${light}"]{fill:${dark}}`,
      `${scope} figure svg [stroke="${light}"]{stroke:${dark}}`,
    ]);
    return [page, ...drawings].join("\n");
  };
  return [
    `@media screen and (prefers-color-scheme:dark){${rules(":root:not([data-theme=light])")}}`,
    `@media screen{${rules(":root[data-theme=dark]")}`,
    `:root[data-theme=dark]{color-scheme:dark}:root[data-theme=light]{color-scheme:light}}`,
  ].join("\n");
}

function contents(report: Report): Element {
  return h("nav", { className: ["contents"], ariaLabel: "Contents" }, [
    h(
      "ol",
      report.sections.map((s) => h("li", [h("a", { href: `#${s.id}` }, s.title)])),
    ),
  ]);
}

function prose(block: Prose): ElementContent[] {
  const tree = toHast({ type: "root", children: [...block.nodes] }) as Root;
  return tree.children.filter((n) => n.type !== "doctype");
}

function block(item: Block): ElementContent[] {
  switch (item.kind) {
    case "prose":
      return prose(item);
    case "table":
      return [table(item)];
    case "figure":
      return [figure(item)];
  }
}

function table(item: TableBlock): Element {
  const align = (i: number) => i >= (item.numbersFrom ?? Infinity) ? { className: ["right"] } : {};
  return h("div", {
    className: ["table"],
    tabIndex: 0,
    role: "region",
    ariaLabel: "Table; scrolls sideways",
  }, [
    h("table", [
      h("caption", item.title),
      ...(item.header.some((c) => c !== "")
        ? [h("thead", [
          h("tr", item.header.map((c, i) => h("th", { scope: "col", ...align(i) }, c))),
        ])]
        : []),
      h("tbody", item.rows.map((r) => h("tr", r.map((c, i) => h("td", align(i), c))))),
    ]),
  ]);
}

function figure(item: FigureBlock): Element {
  const { name, svg, sources } = item.figure;
  const labelled = svg.trim().replace(
    "<svg ",
    `<svg role="img" aria-labelledby="${name}-caption" `,
  );
  const files = Object.entries(sources).map(([extension, text]) =>
    h(
      "a",
      { href: embed(text, `${name}.${extension}`), download: `${name}.${extension}` },
      extension,
    )
  );
  return h("figure", { id: `figure-${name}` }, [
    raw("div", labelled, { className: ["drawing"] }),
    h("figcaption", [
      h("p", { id: `${name}-caption` }, [
        h("strong", `Figure ${item.number}. ${item.title}.`),
        h("span", { className: ["alt"] }, ` ${item.alt}`),
      ]),
      ...prose(item.caption),
      h("p", { className: ["provenance"] }, [
        `${item.provenance} `,
        ...files.flatMap((link, i) => i === 0 ? ["Files: ", link] : [", ", link]),
      ]),
    ]),
  ]);
}

/** The file itself when it is small, so that the page alone is enough; otherwise where it lies beside the page. */
function embed(text: string, file: string): string {
  if (text.length > EMBED_LIMIT) return `figures/${file}`;
  const type = file.endsWith(".csv") ? "text/csv" : "application/json";
  return `data:${type};charset=utf-8,${encodeURIComponent(text)}`;
}
