/**
 * One YAML file, read with care: size, encoding, syntax, duplicate keys, aliases that multiply.
 *
 * @module
 */

import { basename, dirname } from "@std/path";
import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseAllDocuments,
} from "yaml";
import { ConfigurationError, type ConfigurationProblem } from "./error.ts";
import type { ConfigTree } from "./tree.ts";
import { nearest } from "../terminal/closest.ts";

/** A configuration is written by hand; a file larger than this is something else. */
const MAXIMUM_BYTES = 1 << 20;
/** Values in one file once aliases are expanded. */
const MAXIMUM_VALUES = 10_000;
/** Lists and maps inside one another. */
const MAXIMUM_DEPTH = 32;
const TOO_DEEP = "lists or maps are nested too deeply";

/**
 * Reads a YAML file whose top is a map.
 *
 * @throws {ConfigurationError} When the file can't be read, is no YAML, or is no map.
 */
export async function readYamlFile(path: string): Promise<ConfigTree> {
  const tree = parseYaml(await readText(path), {
    place: (line) => `${path}:${line}`,
    whole: path,
  });
  if (tree === undefined) {
    throw problem(path, "the file is empty; expected keys with values, such as `seed: 1`");
  }
  if (tree.kind !== "map") {
    const got = tree.kind === "list" ? "a list" : "a single value";
    throw problem(tree.place, `expected keys with values at the top of the file, got ${got}`);
  }
  return tree;
}

/** How places inside a text are called. */
export interface YamlPlaces {
  /** Names a line, counted from 1. */
  place(line: number): string;
  /** Names the whole text. */
  readonly whole: string;
}

/**
 * Parses YAML text into a tree of values and their places; `undefined` when it holds nothing.
 *
 * @throws {ConfigurationError} With every syntax error, duplicate key or excess.
 */
export function parseYaml(text: string, places: YamlPlaces): ConfigTree | undefined {
  const lines = new LineCounter();
  const lineAt = (offset: number) => places.place(Math.max(1, lines.linePos(offset).line));
  let documents: Document[];
  try {
    documents = [...parseAllDocuments(text, {
      lineCounter: lines,
      prettyErrors: false,
      uniqueKeys: false, // found below, where both lines and the path are known
      logLevel: "silent",
    })];
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw problem(places.whole, TOO_DEEP, { cause: error });
  }
  const [document, second] = documents;
  if (document === undefined || (document.contents === null && document.errors.length === 0)) {
    return undefined;
  }
  const syntax = documents.flatMap(({ errors, warnings }) => [...errors, ...warnings]);
  // The parser recurses, so some thousand opening brackets end its stack: it throws that, or reports it.
  if (syntax.some(({ message }) => /call stack/i.test(message))) {
    throw problem(places.whole, TOO_DEEP);
  }
  if (syntax.length > 0) {
    throw new ConfigurationError(
      syntax.slice(0, 5).map(({ code, message, pos: [offset] }) => ({
        place: lineAt(offset),
        path: enclosingPath(document.contents, offset),
        message: explainSyntax(code, message),
      })),
    );
  }
  if (second !== undefined) {
    const offset = second.range?.[0] ?? text.length;
    throw problem(lineAt(offset), "a second YAML document starts here; a file holds one");
  }
  return toTree(document, lineAt);
}

/** Walks the syntax tree; aliases are expanded within a budget. */
function toTree(document: Document, lineAt: (offset: number) => string): ConfigTree {
  const problems: ConfigurationProblem[] = [];
  let budget = MAXIMUM_VALUES;

  const convert = (node: unknown, place: string, path: readonly string[]): ConfigTree => {
    const stop = (message: string) =>
      new ConfigurationError([{ place, path: path.join("."), message }]);
    if (--budget < 0) {
      throw stop(
        `more than ${MAXIMUM_VALUES} values once aliases are expanded; write fewer or plainer values`,
      );
    }
    if (path.length > MAXIMUM_DEPTH) {
      throw stop(`lists or maps are nested more than ${MAXIMUM_DEPTH} deep`);
    }
    if (isAlias(node)) {
      const target = node.resolve(document);
      if (target === undefined) throw stop(`the alias *${node.source} has no anchor before it`);
      return convert(target, place, path);
    }
    if (isMap(node)) {
      const entries = new Map<string, ConfigTree>();
      const firstPlaces = new Map<string, string>();
      for (const pair of node.items) {
        const keyPlace = lineAt((pair.key as Node | null)?.range?.[0] ?? 0);
        // A key is part of a message's one line.
        if (!isScalar(pair.key) || !/^\P{Cc}+$/u.test(String(pair.key.value ?? ""))) {
          problems.push({
            place: keyPlace,
            path: path.join("."),
            message: "a key must be a plain word",
          });
          continue;
        }
        const key = String(pair.key.value);
        const keyPath = [...path, key];
        if (key === "__proto__") {
          problems.push({ place: keyPlace, path: keyPath.join("."), message: "unknown key" });
          continue;
        }
        const first = firstPlaces.get(key);
        if (first !== undefined) {
          problems.push({
            place: keyPlace,
            path: keyPath.join("."),
            message: `given twice, first at ${first}; keep one`,
          });
          continue;
        }
        firstPlaces.set(key, keyPlace);
        entries.set(key, convert(pair.value, keyPlace, keyPath));
      }
      return { kind: "map", place, entries };
    }
    if (isSeq(node)) {
      const items = node.items.map((item, index) => {
        const offset = (item as Node | null)?.range?.[0];
        const itemPlace = offset === undefined ? place : lineAt(offset);
        return convert(item, itemPlace, [...path, String(index)]);
      });
      return { kind: "list", place, items };
    }
    return { kind: "scalar", place, value: isScalar(node) ? node.value : null };
  };

  const tree = convert(document.contents, lineAt(document.contents?.range?.[0] ?? 0), []);
  if (problems.length > 0) throw new ConfigurationError(problems);
  return tree;
}

/** The keys around an offset, for errors of syntax. */
function enclosingPath(node: unknown, offset: number): string {
  const path: string[] = [];
  let here = node;
  while (path.length < MAXIMUM_DEPTH) {
    if (isMap(here)) {
      const pair = here.items.findLast(({ key }) =>
        ((key as Node | null)?.range?.[0] ?? Infinity) <= offset
      );
      if (pair === undefined || !isScalar(pair.key)) break;
      path.push(String(pair.key.value).slice(0, 40));
      here = pair.value;
    } else if (isSeq(here)) {
      const index = here.items.findLastIndex((item) =>
        ((item as Node | null)?.range?.[0] ?? Infinity) <= offset
      );
      if (index < 0) break;
      path.push(String(index));
      here = here.items[index];
    } else break;
  }
  return path.join(".");
}

/** Suggests how to mend common errors of syntax. */
function explainSyntax(code: string, message: string): string {
  switch (code) {
    case "TAB_AS_INDENT":
      return "a tab is used to indent; YAML takes spaces only";
    case "TAG_RESOLVE_FAILED":
      return `a tag that is not known (${message}); write a plain value`;
    default: {
      const sentence = message.replace(/\.$/, "");
      return `not valid YAML: ${sentence.charAt(0).toLowerCase()}${sentence.slice(1)}`;
    }
  }
}

/** Reads a text file of reasonable size. */
async function readText(path: string): Promise<string> {
  let bytes: Uint8Array;
  try {
    const info = await Deno.stat(path);
    if (info.isDirectory) {
      throw problem(path, "is a directory; expected a YAML file");
    }
    if (!info.isFile) throw problem(path, "is not a regular file; expected a YAML file");
    if (info.size > MAXIMUM_BYTES) {
      throw problem(
        path,
        `is ${info.size} bytes; a configuration has at most ${MAXIMUM_BYTES}. Is it the right file?`,
      );
    }
    bytes = await Deno.readFile(path);
  } catch (error) {
    if (error instanceof ConfigurationError) throw error;
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      throw problem(path, `no such file${await suggestFile(path)}`, { cause: error });
    }
    const reason = error instanceof Error ? error.message : String(error);
    throw problem(path, `can't be read: ${reason}`, { cause: error });
  }
  const head = bytes.subarray(0, 2).join();
  if (head === "255,254" || head === "254,255") {
    throw problem(path, "is UTF-16 text; save it as UTF-8");
  }
  if (bytes.includes(0)) throw problem(path, "is a binary file; expected YAML text in UTF-8");
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (error) {
    throw problem(path, "is not UTF-8 text; save it as UTF-8", { cause: error });
  }
}

/** `; did you mean configs/tiny.yaml?` when a file beside it is called nearly so. */
async function suggestFile(path: string): Promise<string> {
  const folder = dirname(path);
  const names: string[] = [];
  try {
    for await (const entry of Deno.readDir(folder)) {
      if (entry.isFile && /\.ya?ml$/.test(entry.name)) names.push(entry.name);
    }
  } catch {
    return ""; // the folder isn't there, or isn't ours to read
  }
  const wanted = basename(path);
  const match = nearest(wanted, names) ?? nearest(`${wanted}.yaml`, names);
  if (match !== undefined) {
    return `; did you mean ${folder === "." ? match : `${folder}/${match}`}?`;
  }
  return names.length > 0 ? `; there are ${names.sort().slice(0, 12).join(", ")}` : "";
}

/** An error about a whole file or line. */
function problem(place: string, message: string, options?: ErrorOptions): ConfigurationError {
  return new ConfigurationError([{ place, path: "", message }], options);
}
