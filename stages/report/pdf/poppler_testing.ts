/**
 * Poppler, which reads PDFs with none of the code that wrote them. For tests.
 *
 * @module
 */

import { join } from "@std/path";

const INSTALL = [
  // Another test may be installing something else.
  ...["-o", "DPkg::Lock::Timeout=300", "install", "-y", "-q"],
  ...["--no-install-recommends", "poppler-utils"],
];

/** A PDF as Poppler reads it. */
export interface ReadPdf {
  /** Lines of `pdfinfo` by their names: `Tagged`, `Pages`, … */
  readonly info: Readonly<Record<string, string>>;
  /** Text of each page, with single spaces. */
  readonly pages: readonly string[];
  /** Pixel images. */
  readonly images: number;
  /** Font names, and whether each is embedded. */
  readonly fonts: readonly { readonly name: string; readonly embedded: boolean }[];
  /** Bookmarks with their pages. */
  readonly outline: readonly { readonly title: string; readonly page: number }[];
  /** Targets of links. */
  readonly links: readonly string[];
}

/**
 * Reads a PDF.
 *
 * @throws {Error} When Poppler is missing and can't be installed: a test that needs it fails, it does not skip.
 */
export async function readPdf(pdf: Uint8Array<ArrayBuffer>): Promise<ReadPdf> {
  return await withFile(pdf, async (file) => {
    const [info, text, images, fonts, xml] = await Promise.all([
      run("pdfinfo", file),
      run("pdftotext", file, "-"),
      run("pdfimages", "-list", file),
      run("pdffonts", file),
      run("pdftohtml", "-xml", "-i", "-stdout", file),
    ]);
    const rows = (table: string) => table.trim().split("\n").slice(2);
    return {
      info: Object.fromEntries(
        [...info.matchAll(/^([^:]+):\s*(.*)$/gm)].map(([, name, value]) => [name!, value!]),
      ),
      pages: text.split("\f").slice(0, -1).map(singleSpaced),
      images: rows(images).length,
      // The columns after the name: type, encoding, emb, sub, uni, object and its generation.
      fonts: rows(fonts).map((row) => ({
        name: row.split(/\s+/)[0]!,
        embedded: row.trim().split(/\s+/).at(-5) === "yes",
      })),
      outline: [...xml.matchAll(/<item page="(\d+)">(.*?)<\/item>/g)].map(([, page, title]) => ({
        title: unescaped(title!),
        page: Number(page),
      })),
      links: [...xml.matchAll(/<a href="([^"]*)">/g)].map(([, target]) => target!),
    };
  });
}

/** Elements of the structure in their order: `Document`, `H1`, `P`, …; slow, seconds for ten pages. */
export async function readStructure(pdf: Uint8Array<ArrayBuffer>): Promise<string[]> {
  const tree = await withFile(pdf, (file) => run("pdfinfo", "-struct", file));
  return [...tree.matchAll(/^ *([A-Z]\w*)/gm)].map(([, element]) => element!);
}

async function withFile<T>(
  pdf: Uint8Array<ArrayBuffer>,
  read: (file: string) => Promise<T>,
): Promise<T> {
  await ensurePoppler();
  const folder = await Deno.makeTempDir({ prefix: "pdf_" });
  try {
    const file = join(folder, "report.pdf");
    await Deno.writeFile(file, pdf);
    return await read(file);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Text without line breaks and non-breaking spaces. */
export function singleSpaced(text: string): string {
  return text.replaceAll(/[\s\u00a0\u2060]+/g, " ");
}

function unescaped(xml: string): string {
  return xml.replaceAll(/&#(\d+);/g, (_, code) => String.fromCodePoint(Number(code)))
    .replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
}

async function ensurePoppler(): Promise<void> {
  if (await exists()) return;
  const install = () => output("apt-get", ...INSTALL);
  let installed = await install();
  if (!await exists()) {
    // An empty or stale package index is the usual reason.
    await output("apt-get", "update", "-q");
    installed = await install();
  }
  if (await exists()) return;
  throw new Error(
    `Poppler is missing and \`apt-get ${INSTALL.join(" ")}\` failed: ${
      installed === undefined
        ? "there is no apt-get"
        : new TextDecoder().decode(installed.stderr).trim()
    }`,
  );
}

async function exists(): Promise<boolean> {
  return await output("pdftohtml", "-v") !== undefined;
}

async function run(command: string, ...args: string[]): Promise<string> {
  const result = await output(command, ...args);
  if (!result?.success) throw new Error(`${command} did not read the PDF`);
  return new TextDecoder().decode(result.stdout);
}

async function output(command: string, ...args: string[]) {
  const env = { DEBIAN_FRONTEND: "noninteractive" };
  try {
    return await new Deno.Command(command, { args, env, stdin: "null" }).output();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
