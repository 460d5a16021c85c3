import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { composeExpansionReport } from "../../expansion_report/report.ts";
import { expansionReportSchema } from "../../expansion_report/config.ts";
import { readExpansion } from "../../expansion_report/data.ts";
import { madeUpExpansion } from "../../expansion_report/report_testing.ts";
import { reportSchema } from "../config.ts";
import { readInputs } from "../data.ts";
import { md, type Report } from "../document.ts";
import { diagram } from "../figures/diagram.ts";
import { writeReport } from "../files.ts";
import { composeReport } from "../report.ts";
import { madeUpInputs } from "../report_testing.ts";
import { FigureList } from "../sections/context.ts";
import { columnWeights } from "./columns.ts";
import { drawable } from "./glyphs.ts";
import { renderPdf } from "./pdf.ts";
import { readPdf, readStructure, singleSpaced } from "./poppler_testing.ts";

/** Text that would be markup, code or a broken string if it were source, and characters beyond the figures' typeface. */
const HOSTILE = `#panic("x") $x$ *b* _i_ @ref <l> \`c\` // \\ ] } "q" ⟨⌊Σα√∞ℝ⌋⟩ ↵`;

/** A report with all that a tree may hold. */
async function everything(): Promise<Report> {
  const figures = new FigureList({ pngScale: 1 });
  const wide = diagram({
    name: "wide",
    title: `Boxes ${HOSTILE}`,
    alt: "Eight boxes in a row.",
    direction: "right",
    boxes: Array.from({ length: 8 }, (_, i) => ({
      id: `b${i}`,
      label: `a long label ${i}`,
      kind: "data",
    })),
    arrows: Array.from({ length: 7 }, (_, i) => ({ from: `b${i}`, to: `b${i + 1}` })),
  });
  return {
    title: `A paper: ${HOSTILE}`,
    lead: md`Lead of ${HOSTILE}, and [a link](https://example.org/a_b).`,
    sections: [
      {
        id: "prose",
        title: `Prose ${HOSTILE}`,
        blocks: [
          md`First **strong**, _emphasised_ and \`code ${HOSTILE}\`.

- one item
- another item

1. a first
2. a second

> A quotation.

| key | value |
| :-- | --: |
| of a table in prose | 5 % |`,
          await figures.add(wide, { caption: md`Caption of ${HOSTILE}.`, from: [] }),
        ],
      },
      {
        id: "table",
        title: "Tables",
        blocks: [
          {
            kind: "table",
            title: "A long table",
            header: ["number", "square", "words"],
            rows: Array.from({ length: 120 }, (_, i) => [
              `row ${i}`,
              String(i * i),
              i === 7 ? HOSTILE : "f".repeat(64),
            ]),
            numbersFrom: 1,
          },
          {
            kind: "table",
            title: "Without a header",
            header: ["", ""],
            rows: [["hash", `configs/a_b.yaml, SHA-256 ${"0123456789abcdef".repeat(4)}`]],
          },
        ],
      },
    ],
    colophon: md`The end of ${HOSTILE}.`,
  };
}

Deno.test("a paper is tagged, has bookmarks, links, page numbers, embedded fonts, and figures without pixels", async () => {
  const report = await everything();
  const pdf = await renderPdf(report);
  assertEquals(await renderPdf(report), pdf, "the same bytes for the same report");
  const { info, pages, images, fonts, outline, links } = await readPdf(pdf);
  assertEquals(info.Tagged, "yes");
  assertEquals(info.Title, report.title);
  assert(info["Page size"]!.includes("A4"), info["Page size"]);
  assert(!("CreationDate" in info) && !("ModDate" in info), "a date would differ between runs");
  assertEquals(info.Pages, String(pages.length));
  const raw = new TextDecoder("latin1").decode(pdf);
  assert(raw.includes("/Lang (en)"), "the language of the document");
  assert(raw.includes("/Alt (Eight boxes in a row.)"), "the drawing says what it shows");

  assertEquals(images, 0);
  assert(fonts.length >= 5 && fonts.every(({ embedded }) => embedded), JSON.stringify(fonts));
  for (const family of ["IBMPlexSans-Regular", "IBMPlexSans-Italic", "DejaVuSansMono"]) {
    assert(fonts.some(({ name }) => name.endsWith(family)), family);
  }

  assertEquals(outline.map(({ title }) => title), report.sections.map(({ title }) => title));
  assert(links.includes("https://example.org/a_b") && links.includes("figures/wide.json"));
  for (const [i, page] of pages.entries()) {
    const number = new RegExp(`${i + 1} ?/ ?${pages.length}\\b`);
    assert(number.test(page), `page ${i + 1} has no number`);
  }

  const text = pages.join(" ");
  const hostile = singleSpaced(HOSTILE);
  for (
    const [before, after] of [["Lead of ", ","], ["Prose ", ""], ["code ", "."], [
      "Caption of ",
      ".",
    ], ["The end of ", "."]]
  ) {
    assert(text.includes(`${before}${hostile}${after}`), `${before}… in ${text.slice(0, 3000)}`);
  }
  assert(text.includes(`Figure 1. Boxes ${hostile}.`));
  assert(text.includes("0123456789abcdef".repeat(4)), "a hash has no characters between its own");
  assert(text.includes("of a table in prose") && text.includes("A quotation."));

  const structure = await readStructure(pdf);
  assertEquals(structure.filter((element) => element === "H1").length, report.sections.length);
  assertEquals(structure.filter((element) => element === "Figure").length, 1);
  assertEquals(structure.filter((element) => element === "Table").length, 3);
  assertEquals(structure.filter((element) => element === "THead").length, 2);
  for (const element of ["TOC", "P", "L", "LI", "BlockQuote", "Link", "Code", "Caption", "TH"]) {
    assert(structure.includes(element), `no ${element} in ${new Set(structure)}`);
  }
});

Deno.test("a long table repeats its header on each page", async () => {
  const { pages } = await readPdf(await renderPdf(await everything()));
  const rows = pages.map((page) => page.match(/row \d+/g)?.length ?? 0);
  assertEquals(rows.reduce((sum, count) => sum + count), 120);
  const [first] = [...rows.keys()].filter((i) => rows[i]! > 0);
  assert(rows.filter((count) => count > 0).length > 2, rows.join());
  for (const [i, page] of pages.entries()) {
    if (rows[i]! > 0) assertEquals(page.match(/square/g)?.length, 1, `header of page ${i + 1}`);
  }
  assert(pages[first!]!.includes("A long table"), "the title stands on the page of the first row");
});

Deno.test("both reports have all their sections, tables and figures in the paper, in characters that are drawn", async () => {
  const inputs = await readInputs(madeUpInputs({ seeds: [1, 2] }));
  const expansion = readExpansion(madeUpExpansion({ sparsities: [0.5, "2:4"], clusters: [1, 4] }));
  for (
    const { document, figures } of [
      await composeReport(inputs, reportSchema.parse({ png_scale: 1 })),
      await composeExpansionReport(expansion, expansionReportSchema.parse({ png_scale: 1 })),
    ]
  ) {
    for (const section of document.sections) {
      const all = JSON.stringify(section, (key, value) => key === "png" ? undefined : value);
      assertEquals(drawable(all), all, `${section.title}: no typeface has a character`);
    }
    const pdf = await renderPdf(document);
    const { pages, outline, images } = await readPdf(pdf);
    const text = pages.join(" ");
    assertEquals(images, 0);
    assertEquals(outline.map(({ title }) => title), document.sections.map(({ title }) => title));
    let drawn = 0;
    for (const block of document.sections.flatMap(({ blocks }) => blocks)) {
      if (block.kind === "prose") continue;
      assert(text.includes(singleSpaced(block.title)), block.title);
      if (block.kind === "figure") drawn++;
      else {
        const shown = text.replaceAll(" ", "");
        for (const cell of block.rows.flat()) {
          assert(shown.includes(cell.replaceAll(/\s/g, "")), `${block.title}: ${cell}`);
        }
      }
    }
    assertEquals(drawn, figures);
    assertEquals(new TextDecoder("latin1").decode(pdf).match(/\/Alt /g)?.length, figures);
  }
});

Deno.test("a report is written with the paper or without", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const report = {
      document: await everything(),
      files: new Map([["report.md", "words"]]),
      figures: 1,
    };
    assertEquals(await writeReport(join(folder, "without"), report, { pdf: false }), "report.md");
    assertEquals(
      await writeReport(join(folder, "with"), report, { pdf: true }),
      "report.md, report.pdf",
    );
    const names = (name: string) =>
      [...Deno.readDirSync(join(folder, name))].map(({ name }) => name).sort();
    assertEquals(names("without"), ["figures", "report.md"]);
    assertEquals(names("with"), ["figures", "report.md", "report.pdf"]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("a node that the paper has no form for is an error, not a gap", async () => {
  const report: Report = {
    title: "A page",
    lead: { kind: "prose", nodes: [{ type: "html", value: "<b>" }] },
    sections: [],
    colophon: md``,
  };
  await assertRejects(() => renderPdf(report), Error, "cannot show a node of type html");
});

Deno.test("a character that no typeface has is its code point", () => {
  assertEquals(drawable("漢 5 ≤ √30 \u0007 🧪"), "U+6F22 5 ≤ √30 U+0007 U+1F9EA");
  assertEquals(drawable("line\nof text, für Σ"), "line\nof text, für Σ");
});

Deno.test("columns of words are narrow beside columns of sentences, and fit", () => {
  const sentence = "a sentence that takes more than its share of the line ".repeat(4);
  const row = [["1", "word", sentence, sentence + sentence], ["2", "", sentence, sentence]];
  assertEquals(columnWeights([["a", "b"], ["c", "d"]], { width: 400 }), [null, null]);
  const [first, second, third, fourth] = columnWeights(row, { width: 400 });
  assertEquals([first, second], [null, null]);
  assert(third! < fourth! && fourth! < 2 * third!, `${third} ${fourth}`);
});
