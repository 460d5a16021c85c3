/**
 * Small tokenizers in the form of published ones, and the trained ones that a checkout may have beside it, for tests.
 *
 * @module
 */

import { fromFileUrl } from "@std/path";

/** Letters that GPT-2 writes bytes as, by byte. */
function letters(): string[] {
  const printable = [[0x21, 0x7e], [0xa1, 0xac], [0xae, 0xff]] as const;
  let moved = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const own = printable.some(([low, high]) => byte >= low && byte <= high);
    return String.fromCodePoint(own ? byte : moved++);
  });
}

function added(id: number, content: string, special = true) {
  const plain = { single_word: false, lstrip: false, rstrip: false };
  return { id, content, ...plain, normalized: !special, special };
}

/** As Pythia's: bytes as letters, no token before a text, 0 ends it, and a run of spaces that is added. 263 tokens. */
export function byteTokenizer(): Record<string, unknown> {
  const merges = [["Ġ", "t"], ["h", "e"], ["Ġt", "he"], ["Ã", "©"]] as const;
  const vocab = Object.fromEntries(
    ["<|endoftext|>", ...letters(), ...merges.map((pair) => pair.join(""))].map((token, id) => [
      token,
      id,
    ]),
  );
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: [added(0, "<|endoftext|>"), added(261, "    ", false)],
    normalizer: { type: "NFC" },
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true },
    post_processor: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true },
    decoder: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: "",
      end_of_word_suffix: "",
      fuse_unk: false,
      vocab,
      merges: merges.map((pair) => pair.join(" ")),
    },
  };
}

/** As Llama 2's: text with a mark for spaces and bytes by number, 1 before a text, 2 ends it. 263 tokens. */
export function markTokenizer(): Record<string, unknown> {
  const bytes = Array.from(
    { length: 256 },
    (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`,
  );
  const vocab = Object.fromEntries(
    ["<unk>", "<s>", "</s>", ...bytes, "▁", "a", "▁a", "b"].map((token, id) => [token, id]),
  );
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: [added(0, "<unk>"), added(1, "<s>"), added(2, "</s>")],
    normalizer: {
      type: "Sequence",
      normalizers: [
        { type: "Prepend", prepend: "▁" },
        { type: "Replace", pattern: { String: " " }, content: "▁" },
      ],
    },
    pre_tokenizer: null,
    post_processor: {
      type: "TemplateProcessing",
      single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
      pair: [{ Sequence: { id: "A", type_id: 0 } }, { Sequence: { id: "B", type_id: 1 } }],
      special_tokens: { "<s>": { id: "<s>", ids: [1], tokens: ["<s>"] } },
    },
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: "▁" }, content: " " },
        { type: "ByteFallback" },
        { type: "Fuse" },
        { type: "Strip", content: " ", start: 1, stop: 0 },
      ],
    },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: "<unk>",
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: true,
      byte_fallback: true,
      vocab,
      merges: ["▁ a"],
    },
  };
}

/** Path of a file of the material that may lie beside the checkout; undefined where there is none. */
export function besideCheckout(path: string): string | undefined {
  const found = fromFileUrl(new URL(`../../../shared/${path}`, import.meta.url));
  try {
    Deno.statSync(found);
    return found;
  } catch {
    return undefined;
  }
}
