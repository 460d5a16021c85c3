/**
 * Folders that `experts` made, as the dashboard lists and reads them.
 *
 * @module
 */

import { join, relative, resolve } from "@std/path";
import { UserError } from "../../../pipeline/errors.ts";
import { statOrUndefined } from "../../../pipeline/store/files.ts";
import { type ShownFindings, shownFindings } from "./findings.ts";

/** The file that marks a folder. */
const FINDINGS = "experts.json";
/** Files beside the figures that are served. */
const FILES = [FINDINGS, "report.html", "report.md"];
const FIGURES = "figures";
/** A larger file is not read: it is none of `experts`. */
const LARGEST = 2 ** 27;
/** Below `results` folders are looked for so deep, and so many of them. */
const DEPTH = 3;
const MOST_FOLDERS = 1000;
/** Findings that are kept as they were read. */
const KEPT = 4;

/** A folder in the list of them. */
export interface ListedFolder {
  /** Names it in requests. */
  readonly id: string;
  /** Its path, seen from the project where it is in there. */
  readonly name: string;
  /** Time of the findings, milliseconds since 1970. */
  readonly modified: number;
}

/** A file that is no findings, in a sentence. */
export class FindingsError extends Error {
  /** Name of the class. */
  override readonly name = "FindingsError";
}

/** Finds folders by what they hold, and gives out their files by name. No part of a request becomes a path. */
export class ExplorerFolders {
  readonly #root: string;
  readonly #given: readonly string[];
  readonly #read = new Map<string, ShownFindings>();

  private constructor(root: string, given: readonly string[]) {
    this.#root = root;
    this.#given = given;
  }

  /**
   * Takes the project's folder, whose `results` are looked through, and further folders.
   *
   * @throws UserError when a further one holds no findings.
   */
  static async open(root: string, given: readonly string[]): Promise<ExplorerFolders> {
    const folders = given.map((path) => resolve(path));
    for (const [i, folder] of folders.entries()) {
      if ((await statOrUndefined(join(folder, FINDINGS)))?.isFile) continue;
      throw new UserError(
        `--experts is ${
          given[i]
        }, which holds no ${FINDINGS}; expected a folder that \`experts\` made.`,
      );
    }
    const own = new ExplorerFolders(root, folders);
    for (const [i, folder] of folders.entries()) {
      try {
        await own.#findings(folder);
      } catch (error) {
        if (!(error instanceof FindingsError)) throw error;
        throw new UserError(`--experts is ${given[i]}: ${error.message}`);
      }
    }
    return own;
  }

  /** Folders that are there now: those that were given in their order, then those of `results`, the newest first. */
  async list(): Promise<ListedFolder[]> {
    const given = await Promise.all(this.#given.map((folder) => this.#listed(folder)));
    const found = await this.#found();
    const listed = await Promise.all(found.map((folder) => this.#listed(folder)));
    const all = [
      ...given.flatMap((each) => each ?? []),
      ...listed.flatMap((each) => each ?? []).sort((a, b) => b.modified - a.modified),
    ];
    return [...new Map(all.map((each) => [each.id, each])).values()];
  }

  /**
   * The findings of a folder; nothing where there is no such folder.
   *
   * @throws FindingsError when its file is none of `experts`.
   */
  async findings(id: string): Promise<ShownFindings | undefined> {
    const folder = await this.#folder(id);
    return folder === undefined ? undefined : await this.#findings(folder);
  }

  /** Names of the files of a folder that are served; nothing where there is no such folder. */
  async files(id: string): Promise<string[] | undefined> {
    const folder = await this.#folder(id);
    if (folder === undefined) return undefined;
    const figures = (await filesIn(join(folder, FIGURES))).map((name) => `${FIGURES}/${name}`);
    const own = new Set(await filesIn(folder));
    return [...FILES.filter((name) => own.has(name)), ...figures.sort()];
  }

  /** Path of a file that {@linkcode ExplorerFolders.files} lists; nothing for any other name. */
  async path(id: string, name: string): Promise<string | undefined> {
    const folder = await this.#folder(id);
    if (folder === undefined || !(await this.files(id))!.includes(name)) return undefined;
    return join(folder, ...name.split("/"));
  }

  async #folder(id: string): Promise<string | undefined> {
    for (const folder of [...this.#given, ...await this.#found()]) {
      if (await idOf(folder) === id) return folder;
    }
  }

  async #listed(folder: string): Promise<ListedFolder | undefined> {
    const stat = await statOrUndefined(join(folder, FINDINGS));
    if (!stat?.isFile) return undefined;
    const name = relative(this.#root, folder);
    return {
      id: await idOf(folder),
      name: name.startsWith("..") ? folder : name,
      modified: stat.mtime?.getTime() ?? 0,
    };
  }

  async #found(): Promise<string[]> {
    const found: string[] = [];
    let level = [join(this.#root, "results")];
    let seen = 0;
    for (let depth = 0; depth <= DEPTH && level.length > 0; depth++) {
      const next: string[] = [];
      for (const folder of level) {
        if (++seen > MOST_FOLDERS) return found;
        for (const { name, isDirectory, isFile } of await entriesOf(folder)) {
          if (isFile && name === FINDINGS) found.push(folder);
          // A link may lead anywhere, and in a circle.
          if (isDirectory) next.push(join(folder, name));
        }
      }
      level = next.sort();
    }
    return found;
  }

  async #findings(folder: string): Promise<ShownFindings> {
    const path = join(folder, FINDINGS);
    const stat = await Deno.stat(path);
    if (stat.size > LARGEST) {
      throw new FindingsError(
        `${FINDINGS} has ${stat.size} bytes; expected at most ${LARGEST}.`,
      );
    }
    const key = `${path} ${stat.ino} ${stat.size} ${stat.mtime?.getTime()}`;
    let findings = this.#read.get(key);
    if (findings === undefined) {
      let value: unknown;
      try {
        value = JSON.parse(await Deno.readTextFile(path));
      } catch (error) {
        if (!(error instanceof SyntaxError)) throw error;
        throw new FindingsError(`${FINDINGS} is no JSON; expected the findings of \`experts\`.`);
      }
      const parsed = shownFindings(value);
      if (typeof parsed === "string") throw new FindingsError(`${FINDINGS}: ${parsed}`);
      findings = parsed;
    }
    this.#read.delete(key);
    this.#read.set(key, findings);
    for (const oldest of this.#read.keys()) {
      if (this.#read.size <= KEPT) break;
      this.#read.delete(oldest);
    }
    return findings;
  }
}

async function entriesOf(folder: string): Promise<Deno.DirEntry[]> {
  try {
    return await Array.fromAsync(Deno.readDir(folder));
  } catch (error) {
    const { NotFound, NotADirectory, PermissionDenied } = Deno.errors;
    if (
      error instanceof NotFound || error instanceof NotADirectory ||
      error instanceof PermissionDenied
    ) return [];
    throw error;
  }
}

/** Names of regular files; links are none. */
async function filesIn(folder: string): Promise<string[]> {
  return (await entriesOf(folder)).flatMap(({ name, isFile }) => isFile ? [name] : []);
}

const ids = new Map<string, string>();

/** A name of a folder that requests can carry: hexadecimal digits of its path's SHA-256. */
async function idOf(folder: string): Promise<string> {
  let id = ids.get(folder);
  if (id === undefined) {
    const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(folder));
    id = new Uint8Array(hash).toHex().slice(0, 16);
    ids.set(folder, id);
  }
  return id;
}
