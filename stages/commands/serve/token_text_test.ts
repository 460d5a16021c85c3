import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { openTokenizer } from "../../../model/text/tokenizer.ts";
import { BYTE_VOCABULARY } from "../model/checkpoint_testing.ts";
import { characters, type TextPiece, tokenName, TokenText } from "./token_text.ts";

const tokenizer = await openTokenizer(BYTE_VOCABULARY);
const bytes = (text: string) => [...new TextEncoder().encode(text)];

/** Everything that is told of a text's bytes. */
function tell(text: string, stop: readonly string[]) {
  const joiner = new TokenText<number>(tokenizer, { stop, trim: false, offset: 10 });
  const pieces: TextPiece<number>[] = [];
  let stopped = false;
  for (const [i, token] of bytes(text).entries()) {
    const added = joiner.add(token, i);
    pieces.push(added);
    stopped = added.stopped;
    if (stopped) break;
  }
  if (!stopped) pieces.push(joiner.end());
  return {
    text: pieces.map(({ text }) => text).join(""),
    tokens: pieces.flatMap(({ tokens }) => tokens),
    pieces: pieces.map(({ text }) => text).filter((text) => text !== ""),
    stopped,
  };
}

Deno.test("TokenText ends before the first stop sequence, whatever it is and wherever pieces end", () => {
  const letters = fc.string({ unit: fc.constantFrom("a", "b", "é", "🙂"), maxLength: 12 });
  const stops = fc.array(
    fc.string({ unit: fc.constantFrom("a", "b", "é"), minLength: 1, maxLength: 4 }),
    {
      maxLength: 3,
    },
  );
  fc.assert(fc.property(letters, stops, (text, stop) => {
    const told = tell(text, stop);
    const ends = stop.map((one) => text.indexOf(one)).filter((at) => at >= 0);
    // The text ends at the stop sequence that is complete first; of those that are complete together, at the longest.
    const complete = stop.filter((one) => text.includes(one))
      .map((one) => text.indexOf(one) + one.length);
    assertEquals(told.stopped, ends.length > 0);
    const end = Math.min(...complete);
    const cut = ends.length === 0 ? text : text.slice(
      0,
      Math.min(...stop.map((one) => text.slice(0, end).indexOf(one)).filter((at) => at >= 0)),
    );
    assertEquals(told.text, cut);
    // A token for each byte of it, in order.
    assertEquals(told.tokens.map(({ info }) => info), bytes(cut).map((_, i) => i));
    let at = 0;
    for (const character of cut) {
      const offset = 10 + characters(cut.slice(0, cut.length)) - characters(cut) + at++;
      const length = bytes(character).length;
      for (const { offset: found } of told.tokens.splice(0, length)) assertEquals(found, offset);
    }
  }));
});

Deno.test("TokenText tells whole characters alone, and waits where a stop sequence may begin", () => {
  assertEquals(tell("né🙂", []).pieces, ["n", "é", "🙂"]);
  assertEquals(tell("xabaab", ["abc"]).pieces, ["x", "ab", "a", "ab"]);
  assertEquals(tell("xababc!", ["abc"]), {
    ...tell("xab", []),
    pieces: ["x", "ab"],
    stopped: true,
  });
  // Bytes that are no characters are told at the end.
  const joiner = new TokenText<string>(tokenizer, { stop: [], trim: true, offset: 0 });
  assertEquals(joiner.add(0x20, "space"), {
    text: "",
    tokens: [],
    stopped: false,
  });
  assertEquals(joiner.add(0xe2, "half").text, "");
  assertEquals(joiner.end("end").text, "\ufffd");
  assertEquals([tokenName(tokenizer, 0x61), tokenName(tokenizer, 0xe2)], ["a", "bytes:\\xe2"]);
});
