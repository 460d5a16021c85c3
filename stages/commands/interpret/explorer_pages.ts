/**
 * The page of the dashboard that shows what `experts` found.
 *
 * @module
 */

import { listArgument } from "../../../pipeline/command.ts";
import type { ProgramPages } from "../../../pipeline/dashboard/pages.ts";

/** The page, and its option. */
export const EXPLORER_PAGES: ProgramPages = {
  options: {
    experts: {
      type: "string",
      array: true,
      nargs: 1,
      requiresArg: true,
      describe: "Folder that `experts` made, beside those in results; may be repeated",
    },
  },
  async open(args, { root, title }) {
    const [{ ExplorerFolders }, { explorerPage }] = await Promise.all([
      import("../../experts/dashboard/folders.ts"),
      import("../../experts/dashboard/page.ts"),
    ]);
    const folders = await ExplorerFolders.open(root, listArgument(args, "experts"));
    return [explorerPage(folders, { title })];
  },
};
