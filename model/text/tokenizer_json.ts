/**
 * The tokenizer of a published model, as its `tokenizer.json` describes it.
 *
 * `@huggingface/tokenizers` cuts text into tokens. Bytes of a token are found here, since a stream of text may cut a character in two: tokens spell
 * bytes by the letters of GPT-2 (`ByteLevel`), or text with a mark for spaces and bytes as `<0xNN>` (as SentencePiece does).
 *
 * @module
 */

import { Tokenizer as Library } from "@huggingface/tokenizers";
import { z } from "zod";
import { joinBytes, type Tokenizer } from "./tokens.ts";

const partSchema: z.ZodType<Part> = z.looseObject({
  type: z.string(),
  get decoders() {
    return z.array(partSchema).nullish();
  },
});

/** A step of a decoder. */
interface Part {
  readonly type: string;
  readonly decoders?: readonly Part[] | null | undefined;
  readonly [key: string]: unknown;
}

const fileSchema = z.looseObject({
  added_tokens: z.array(z.looseObject({
    id: z.int().min(0),
    content: z.string(),
    special: z.boolean().default(false),
  })).default([]),
  normalizer: z.unknown(),
  pre_tokenizer: z.unknown(),
  post_processor: z.unknown(),
  decoder: partSchema,
  model: z.looseObject({ vocab: z.record(z.string(), z.int().min(0)) }),
});

/** How a token is spelled. */
type Spelling =
  | { readonly by: "bytes" } // each letter stands for a byte
  | { readonly by: "text"; readonly space: string }; // text, with `space` for a space

/** Options of {@linkcode JsonTokenizer}. */
export interface JsonTokenizerOptions {
  /** The parsed `tokenizer.json`. */
  readonly json: unknown;
  /** The parsed `tokenizer_config.json`; none unless given. */
  readonly config?: unknown;
  /** Tokens that end a text, at least one. */
  readonly ends: readonly number[];
}

/**
 * A published tokenizer.
 *
 * @example
 * ```ts ignore
 * const json = JSON.parse(await Deno.readTextFile("pythia/tokenizer.json"));
 * const tokenizer = new JsonTokenizer({ json, ends: [0] });
 * console.log(tokenizer.encode("Hello"));
 * ```
 */
export class JsonTokenizer implements Tokenizer {
  /** One more than the largest id. */
  readonly vocab_size: number;
  /** The first of the tokens that end a text. */
  readonly endoftext: number;
  /** Tokens that end a text. */
  readonly ends: ReadonlySet<number>;
  /** Tokens that every text begins with; none in some models. */
  readonly begin: readonly number[];
  /** Whether a text's first token has a space before it that the text has not. */
  readonly trims: boolean;
  readonly #library: Library;
  readonly #tokens: ReadonlyMap<number, string>;
  readonly #added: ReadonlyMap<number, { readonly content: string; readonly special: boolean }>;
  readonly #spelling: Spelling;
  readonly #bytes = new Map<number, Uint8Array>();

  /** @throws {Error} Naming the key of `tokenizer.json` that is wrong or not known. */
  constructor({ json, config = {}, ends }: JsonTokenizerOptions) {
    const parsed = fileSchema.safeParse(json);
    if (!parsed.success) {
      const issue = parsed.error.issues[0]!;
      const path = issue.path.join(".") || "the file";
      throw new Error(`${path}: ${issue.message.replaceAll(/\s+/g, " ")}`);
    }
    const file = parsed.data;
    const parts = flatten(file.decoder);
    this.#spelling = spellingOf(parts);
    this.trims = parts.some(({ type, content, start, prepend_scheme = "always" }) =>
      (type === "Strip" && content === " " && start === 1) ||
      (type === "Metaspace" && prepend_scheme !== "never")
    );
    this.#tokens = new Map(Object.entries(file.model.vocab).map(([token, id]) => [id, token]));
    this.#added = new Map(file.added_tokens.map((token) => [token.id, token]));
    const largest = [...this.#tokens.keys(), ...this.#added.keys()]
      .reduce((most, id) => Math.max(most, id), -1);
    this.vocab_size = largest + 1;
    for (const id of ends) {
      if (id < this.vocab_size) continue;
      throw new Error(`the token ${id} that ends a text is not in it; its last one is ${largest}`);
    }
    this.ends = new Set(ends);
    this.endoftext = ends[0]!;
    // Text that spells a special token is ordinary text.
    const ordinary = file.added_tokens.filter(({ special }) => !special);
    try {
      this.begin = new Library(file, Object(config)).encode("").ids;
      this.#library = new Library({ ...file, added_tokens: ordinary }, Object(config));
    } catch (cause) {
      throw new Error(cause instanceof Error ? cause.message : String(cause), { cause });
    }
  }

  encode(text: string): Uint32Array {
    if (text === "") return new Uint32Array();
    const { ids } = this.#library.encode(text.toWellFormed(), { add_special_tokens: false });
    return Uint32Array.from(ids, (id, i) => {
      if (Number.isInteger(id) && id >= 0 && id < this.vocab_size) return id;
      throw new Error(`the tokenizer has no token for piece ${i} of the text`);
    });
  }

  decode(ids: Iterable<number>): string {
    const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(this.decodeBytes(ids));
    return this.trims && text.startsWith(" ") ? text.slice(1) : text;
  }

  /** Bytes of `ids`: those of the text with, where {@linkcode trims} says so, a space before it. A special token has none. */
  decodeBytes(ids: Iterable<number>): Uint8Array {
    return joinBytes(ids, (id) => {
      let bytes = this.#bytes.get(id);
      if (!bytes) this.#bytes.set(id, bytes = this.#spell(id));
      return bytes;
    });
  }

  #spell(id: number): Uint8Array {
    const added = this.#added.get(id);
    if (added) return added.special ? new Uint8Array() : new TextEncoder().encode(added.content);
    const token = this.#tokens.get(id);
    // A model's vocabulary may be larger than the tokenizer's.
    if (token === undefined) return new Uint8Array();
    if (this.#spelling.by === "bytes") {
      return Uint8Array.from(token, (letter) => {
        const byte = BYTE_OF.get(letter);
        if (byte !== undefined) return byte;
        throw new Error(`token ${id}, ${JSON.stringify(token)}, is not spelled in bytes`);
      });
    }
    const byte = /^<0x([0-9A-Fa-f]{2})>$/.exec(token)?.[1];
    if (byte !== undefined) return Uint8Array.of(Number.parseInt(byte, 16));
    return new TextEncoder().encode(token.replaceAll(this.#spelling.space, " "));
  }
}

/** The steps of a decoder, in order. */
function flatten(part: Part): Part[] {
  return part.type === "Sequence" ? (part.decoders ?? []).flatMap(flatten) : [part];
}

/** How tokens are spelled that are decoded in these steps. */
function spellingOf(parts: readonly Part[]): Spelling {
  if (parts.some(({ type }) => type === "ByteLevel")) return { by: "bytes" };
  for (const { type, pattern, replacement, content } of parts) {
    if (type === "Metaspace") return { by: "text", space: String(replacement ?? "▁") };
    const from = Object(pattern)["String"];
    if (type === "Replace" && content === " " && typeof from === "string") {
      return { by: "text", space: from };
    }
  }
  throw new Error(
    `decoder is ${
      parts.map(({ type }) => type).join(", ")
    }; expected ByteLevel, Metaspace, or a Replace of a mark by a space`,
  );
}

/** The letters that GPT-2 writes bytes as, by byte: printable bytes are themselves, the others are moved behind Latin-1. */
export const BYTE_LETTERS: readonly string[] = (() => {
  const printable = (byte: number) =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xff && byte !== 0xad);
  let moved = 0;
  return Array.from(
    { length: 256 },
    (_, byte) => String.fromCharCode(printable(byte) ? byte : 256 + moved++),
  );
})();

/** The bytes that the letters stand for. */
const BYTE_OF: ReadonlyMap<string, number> = new Map(
  BYTE_LETTERS.map((letter, byte) => [letter, byte]),
);
