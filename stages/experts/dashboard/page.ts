/**
 * The dashboard's page of what `experts` found: its parts, and the answers that they ask for.
 *
 * @module
 */

import type { DashboardPage } from "../../../pipeline/dashboard/pages.ts";
import { fileResponse, partsOf } from "../../../pipeline/dashboard/files.ts";
import { json, PAGE_HEADERS, RequestError } from "../../../pipeline/dashboard/response.ts";
import app from "./page/app.js" with { type: "text" };
import details from "./page/details.js" with { type: "text" };
import list from "./page/list.js" with { type: "text" };
import map from "./page/map.js" with { type: "text" };
import page from "./page/index.html" with { type: "text" };
import style from "./page/experts.css" with { type: "text" };
import tables from "./page/tables.js" with { type: "text" };
import { type ExplorerFolders, FindingsError } from "./folders.ts";

const PATH = "/experts";
/** Deno finds the dashboard's module by its file, a browser by its place. */
const script = (text: string) => ({
  type: "text/javascript; charset=utf-8",
  text: text.replace('"../../../../pipeline/dashboard/page/dom.js"', '"/page/dom.js"'),
});
const ASSETS: ReadonlyMap<string, { readonly type: string; readonly text: string }> = new Map([
  [PATH, { type: "text/html; charset=utf-8", text: page }],
  [`${PATH}/page/app.js`, script(app)],
  [`${PATH}/page/details.js`, script(details)],
  [`${PATH}/page/list.js`, script(list)],
  [`${PATH}/page/map.js`, script(map)],
  [`${PATH}/page/tables.js`, script(tables)],
  [`${PATH}/page/experts.css`, { type: "text/css; charset=utf-8", text: style }],
]);
const NOWHERE = "There is no such folder of experts.";

/** Makes the page over folders. */
export function explorerPage(
  folders: ExplorerFolders,
  { title }: { readonly title: string },
): DashboardPage {
  return {
    path: PATH,
    title: "Experts",
    async answer({ pathname, searchParams }) {
      const asset = ASSETS.get(pathname);
      if (asset !== undefined) {
        return new Response(asset.text, {
          headers: { ...PAGE_HEADERS, "content-type": asset.type },
        });
      }
      if (pathname === `${PATH}/list`) return json({ title, folders: await folders.list() });
      if (pathname === `${PATH}/findings`) {
        return json(await findingsOf(folders, searchParams.get("id") ?? ""));
      }
      if (pathname.startsWith(`${PATH}/files/`)) {
        const [id = "", ...name] = partsOf(pathname).slice(3);
        const path = await folders.path(id, name.join("/"));
        if (path === undefined) throw new RequestError(404, "There is no such file of experts.");
        return await fileResponse(path, {
          name: name.at(-1)!,
          missing: "The file was removed meanwhile.",
        });
      }
      throw new RequestError(404, "There is nothing here.");
    },
  };
}

async function findingsOf(folders: ExplorerFolders, id: string): Promise<unknown> {
  try {
    const findings = await folders.findings(id);
    const files = await folders.files(id);
    if (findings === undefined || files === undefined) throw new RequestError(404, NOWHERE);
    return { findings, files };
  } catch (error) {
    if (error instanceof FindingsError) throw new RequestError(422, error.message);
    if (error instanceof Deno.errors.NotFound) throw new RequestError(404, NOWHERE);
    throw error;
  }
}
