/**
 * Typst, compiled to WebAssembly: a document in Typst's language becomes a tagged PDF. It sees the files that it is
 * given and nothing else: no disk, no network, no clock, no fonts of the system.
 *
 * @module
 */

import {
  initSync,
  type TypstCompiler,
  TypstCompilerBuilder,
} from "@myriaddreamin/typst-ts-web-compiler";
import { packageFile } from "../figures/fonts.ts";
import { typefaces } from "./glyphs.ts";

const TYPESETTER = "@myriaddreamin/typst-ts-web-compiler";

/** Typst's numbers for what to make, and for complaints as objects with positions. */
const PDF = 1;
const WITH_POSITIONS = 3;

/** A complaint of Typst. */
interface Diagnostic {
  readonly message: string;
  readonly severity: string;
  /** File. */
  readonly path: string;
  /** Lines and columns from zero. */
  readonly range: string;
}

/** A made artifact, or the reasons why there is none. */
interface Artifact {
  readonly result?: Uint8Array<ArrayBuffer>;
  readonly diagnostics?: readonly Diagnostic[];
}

let loaded = false;

/** A compiler with the typefaces. */
async function compiler(): Promise<TypstCompiler> {
  if (!loaded) {
    initSync({ module: Deno.readFileSync(packageFile(`${TYPESETTER}/wasm`)) });
    loaded = true;
  }
  const builder = new TypstCompilerBuilder();
  builder.set_dummy_access_model();
  for (const font of typefaces()) await builder.add_raw_font(font);
  return await builder.build();
}

/**
 * Sets a document.
 *
 * @param source The document, in Typst's language.
 * @param files What it reads, by absolute path.
 * @returns The PDF; the same bytes for the same arguments.
 * @throws {Error} When the document is faulty: warnings count as errors.
 */
export async function typeset(
  source: string,
  files: ReadonlyMap<string, string>,
): Promise<Uint8Array<ArrayBuffer>> {
  const typst = await compiler();
  try {
    for (const [path, text] of files) typst.map_shadow(path, new TextEncoder().encode(text));
    typst.add_source("/main.typ", source);
    const world = typst.snapshot("/", "/main.typ", undefined);
    try {
      const { diagnostics = [] } = world.compile(0, WITH_POSITIONS) as Artifact;
      if (diagnostics.length > 0) throw new Error(complaint(diagnostics));
      const { result, diagnostics: refused = [] } = world.get_artifact(
        PDF,
        WITH_POSITIONS,
      ) as Artifact;
      if (result === undefined) throw new Error(complaint(refused));
      return result;
    } finally {
      world.free();
    }
  } finally {
    typst.free();
  }
}

function complaint(diagnostics: readonly Diagnostic[]): string {
  const told = diagnostics.map(({ severity, message, path, range }) =>
    `${severity} at ${path} ${range}: ${message}`
  );
  return `Typst did not set the report: ${told.join("; ")}`;
}
