/**
 * The files of a model's page: the same whether they are served or lie in a folder.
 *
 * @module
 */

import { basename, resolve } from "@std/path";
import { modelTensors } from "../../../model/checkpoint/model_tensors.ts";
import { SafetensorsFile } from "../../../model/checkpoint/safetensors.ts";
import { loadRanks } from "../../../model/text/tiktoken.ts";
import { parseVocabulary } from "../../../model/text/tokenizer.ts";
import { messageOf, UserError } from "../../../pipeline/errors.ts";
import type { OpenedCheckpoint } from "../model/checkpoints.ts";
import { licensesOf } from "./licenses.ts";
import icon from "./page/icon.svg" with { type: "text" };
import page from "./page/index.html" with { type: "text" };
import style from "./page/playground.css" with { type: "text" };
import { modelScript, partScript } from "./page_model.ts";
import { buildScript } from "./script.ts";

/** Bytes of weights in one script; a multiple of 4. */
const PART = 8 * 2 ** 20;
/** Bytes of weights that a page holds: it has them in memory once more before they are on the GPU. */
const MOST = 2 ** 30;
/** Where the page names its scripts. */
const SCRIPTS = "<!-- scripts -->";

/** A file of the page. */
export interface PageFile {
  /** Its media type. */
  readonly type: string;
  text(): string | Promise<string>;
}

/** A model's page. */
export interface Site extends Disposable {
  /** Files by their path from the page. */
  readonly files: ReadonlyMap<string, PageFile>;
  /** Bytes of the weights. */
  readonly bytes: number;
}

/** A piece of a tensor. */
interface Piece {
  readonly tensor: string;
  readonly offset: number;
  readonly byteLength: number;
}

const JAVASCRIPT = "text/javascript; charset=utf-8";

/**
 * Builds the page of a model. Weights are read when their file is asked for.
 *
 * @param options `part`: bytes of weights in a script.
 * @throws {UserError} If the model's file is damaged, or too large for a page.
 */
export async function buildSite(
  checkpoint: OpenedCheckpoint,
  options: { readonly part?: number } = {},
): Promise<Site> {
  const { name, model: path, architecture } = checkpoint;
  const vocabulary = parseVocabulary(JSON.parse(await Deno.readTextFile(checkpoint.vocabulary)));
  const file = await SafetensorsFile.open(path);
  try {
    const tensors = tensorsOf(checkpoint, file);
    const bytes = tensors.reduce((sum, { byteLength }) => sum + byteLength, 0);
    if (bytes > MOST) {
      throw new UserError(
        `The checkpoint ${name} has ${bytes} bytes of weights; expected at most ${MOST} for a page.`,
      );
    }
    const encoding = vocabulary.vocabulary === "compact" ? "cl100k_base" : vocabulary.vocabulary;
    const [script, { bpe_ranks: ranks }] = await Promise.all([buildScript(), loadRanks(encoding)]);
    const model = modelScript({
      // A page may be handed on: where the files were on this machine is nobody's business.
      name: checkpoint.record === undefined ? basename(resolve(name)) : name,
      config: architecture.config,
      vocabulary,
      encoding,
      ranks,
      tensors: Object.fromEntries(tensors.map(({ name, byteLength }) => [name, byteLength])),
    });
    const weights = cut(tensors, options.part ?? PART).map((pieces, i) =>
      [`model/${String(i).padStart(4, "0")}.js`, {
        type: JAVASCRIPT,
        text: () => weightScript(file, pieces),
      }] as const
    );
    const scripts = ["playground.js", "model/model.js", ...weights.map(([path]) => path)]
      .map((path) => `<script defer src="${path}"></script>`).join("\n    ");
    const fixed = (type: string, text: string): PageFile => ({ type, text: () => text });
    const files = new Map<string, PageFile>([
      ["index.html", fixed("text/html; charset=utf-8", page.replace(SCRIPTS, () => scripts))],
      ["playground.css", fixed("text/css; charset=utf-8", style)],
      ["playground.js", fixed(JAVASCRIPT, script.text)],
      ["licenses.txt", fixed("text/plain; charset=utf-8", await licensesOf(script.packages))],
      ["icon.svg", fixed("image/svg+xml", icon)],
      ["model/model.js", fixed(JAVASCRIPT, model)],
      ...weights,
    ]);
    return { files, bytes, [Symbol.dispose]: () => file[Symbol.dispose]() };
  } catch (error) {
    file[Symbol.dispose]();
    throw error;
  }
}

function tensorsOf({ name, model, architecture }: OpenedCheckpoint, file: SafetensorsFile) {
  try {
    return modelTensors(model, { file, architecture });
  } catch (error) {
    throw new UserError(`The checkpoint ${name} can't be used: ${messageOf(error)}.`, {
      cause: error,
    });
  }
}

/** Cuts tensors into pieces, and puts these into parts of about `size` bytes. */
function cut(
  tensors: readonly { readonly name: string; readonly byteLength: number }[],
  size: number,
): Piece[][] {
  const parts: Piece[][] = [];
  let room = 0;
  for (const { name: tensor, byteLength: whole } of tensors) {
    for (let offset = 0; offset < whole;) {
      if (room === 0) {
        parts.push([]);
        room = size;
      }
      const byteLength = Math.min(room, whole - offset);
      parts.at(-1)!.push({ tensor, offset, byteLength });
      offset += byteLength;
      room -= byteLength;
    }
  }
  return parts;
}

async function weightScript(file: SafetensorsFile, pieces: readonly Piece[]): Promise<string> {
  const lines = [];
  for (const { tensor, offset, byteLength } of pieces) {
    lines.push(
      partScript(tensor, offset, await file.readBytes(tensor, { offset, byteLength })),
    );
  }
  return lines.join("");
}
