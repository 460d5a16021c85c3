/**
 * `playground`: a model on a page that runs it in the browser.
 *
 * @module
 */

import { dirname, join, resolve } from "@std/path";
import { type LoopbackServer, serveLoopback } from "../../../pipeline/dashboard/loopback.ts";
import { PAGE_HEADERS, RequestError } from "../../../pipeline/dashboard/response.ts";
import { makeFolder, requireFree } from "../free_folder.ts";
import { type FindOptions, openCheckpoint } from "../model/checkpoints.ts";
import { buildSite, type Site } from "./site.ts";

/** Options of {@linkcode writePlayground} and {@linkcode servePlayground}. */
export interface PlaygroundOptions extends FindOptions {
  /** See `findCheckpoint`. */
  readonly checkpoint: string;
}

/** A page in a folder. */
export interface WrittenPage {
  readonly folder: string;
  /** Names in the folder, sorted. */
  readonly files: readonly string[];
  /** Bytes of the weights. */
  readonly bytes: number;
}

/**
 * Writes the page into a folder, which appears whole or not at all.
 *
 * @throws {UserError} In one line, if there is no such checkpoint, it is damaged, or the folder has other files.
 */
export async function writePlayground(
  options: PlaygroundOptions & { readonly out: string },
): Promise<WrittenPage> {
  const folder = resolve(options.out);
  await requireFree(folder);
  const checkpoint = await openCheckpoint(options.checkpoint, options);
  using site = await buildSite(checkpoint);
  const { files, bytes } = site;
  await makeFolder(folder, async (temporary) => {
    for (const [path, file] of files) {
      const to = join(temporary, path);
      await Deno.mkdir(dirname(to), { recursive: true });
      await Deno.writeTextFile(to, await file.text());
    }
  });
  return { folder, files: [...files.keys()].sort(), bytes };
}

/**
 * Serves the page on loopback until the signal comes.
 *
 * @throws {UserError} In one line, if there is no such checkpoint, it is damaged, or the port is taken.
 */
export async function servePlayground(
  options: PlaygroundOptions & {
    readonly port: number;
    readonly signal: AbortSignal;
    /** Told where the page is, once it is there. */
    readonly ready: (server: LoopbackServer) => void;
    readonly warn?: (line: string) => void;
  },
): Promise<void> {
  const checkpoint = await openCheckpoint(options.checkpoint, options);
  using site = await buildSite(checkpoint);
  const server = serveLoopback({ ...options, answer: (request) => answer(site, request) });
  options.ready(server);
  await server.finished;
}

/** Only names of the site's list are answered: no path of a request reaches the disk. */
async function answer({ files }: Site, request: Request): Promise<Response> {
  const { pathname } = new URL(request.url);
  const file = files.get(pathname === "/" ? "index.html" : pathname.slice(1));
  if (file === undefined) throw new RequestError(404, "There is nothing here.");
  const headers = { ...PAGE_HEADERS, "content-type": file.type };
  return new Response(await file.text(), { headers });
}
