/**
 * Files that nodes published, `/files/<key>/<output>/<path>`. Only names that a manifest lists are found, so no path
 * leads elsewhere.
 *
 * @module
 */

import type { ObjectRef, ObjectStore } from "../store/objects.ts";
import type { NodeRecord, Records } from "../store/records/records.ts";
import { FILE_HEADERS, RequestError } from "./response.ts";

/** Types that a browser shows; others are saved. */
const TYPES: Readonly<Record<string, string>> = {
  csv: "text/plain; charset=utf-8",
  html: "text/html; charset=utf-8",
  json: "application/json; charset=utf-8",
  md: "text/plain; charset=utf-8",
  png: "image/png",
  svg: "image/svg+xml; charset=utf-8",
  txt: "text/plain; charset=utf-8",
};

/**
 * Answers with one file.
 *
 * @throws RequestError when no manifest lists it, or its object is gone.
 */
export async function openFile(
  pathname: string,
  { records, objects }: { records: Records; objects: ObjectStore },
): Promise<Response> {
  const [key = "", output = "", ...path] = partsOf(pathname).slice(2);
  const record = /^[0-9a-f]{64}$/.test(key) ? await records.readNode(key) : undefined;
  const found = record && find(record, output, path.join("/"));
  if (found === undefined) throw new RequestError(404, "No node has published such a file.");
  return await fileResponse(objects.path(found.sha256), {
    name: path.at(-1) ?? "",
    missing: "The file's object is missing; `verify` says more.",
  });
}

/**
 * One file of the disk under a name, whose ending says whether a browser shows or saves it.
 *
 * @throws RequestError With `missing` when it is not there.
 */
export async function fileResponse(
  path: string,
  { name, missing }: { readonly name: string; readonly missing: string },
): Promise<Response> {
  let file: Deno.FsFile;
  try {
    file = await Deno.open(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new RequestError(404, missing);
  }
  const type = TYPES[/\.([a-z]+)$/.exec(name)?.[1] ?? ""];
  return new Response(file.readable, {
    headers: {
      ...FILE_HEADERS,
      "content-length": String((await file.stat()).size),
      "content-type": type ?? "application/octet-stream",
      ...type === undefined && { "content-disposition": "attachment" },
    },
  });
}

/** The parts of a path between its slashes, decoded. */
export function partsOf(pathname: string): string[] {
  try {
    return pathname.split("/").map(decodeURIComponent);
  } catch {
    throw new RequestError(400, "The path is no text.");
  }
}

function find(record: NodeRecord, name: string, path: string): ObjectRef | undefined {
  const output = Object.hasOwn(record.outputs, name) ? record.outputs[name] : undefined;
  if (output?.kind === "file" && path === "") return output;
  if (output?.kind === "directory") return output.files.find((file) => file.path === path);
}
