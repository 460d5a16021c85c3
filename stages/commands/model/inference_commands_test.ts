import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { openTestGpu } from "../../../model/gpu/testing.ts";
import { UserError } from "../../../pipeline/errors.ts";
import { someText, writeStore } from "./checkpoint_testing.ts";
import { evaluateCheckpoint, type EvaluateCheckpointOptions } from "./evaluate.ts";
import { generate, type GenerateOptions } from "./generate.ts";
import { runTask } from "../speed/task_testing.ts";
import { parquetOf } from "../../download/sources/parquet_testing.ts";

const NODE = "train[base,seed=1]";
/** Draws from the model's distribution as it is. */
const SAMPLING = { temperature: 1, top_k: 0, top_p: 1, min_p: 0, repetition_penalty: 1 };

async function withStore(work: (storeDir: string, dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    await writeStore(join(dir, "store"));
    await work(join(dir, "store"), dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

Deno.test("generate() streams a continuation and measures", async () => {
  await withStore(async (storeDir) => {
    const run = async (changes: Partial<GenerateOptions> = {}) => {
      const written: string[] = [];
      const result = await generate({
        checkpoint: NODE,
        storeDir,
        prompt: "the cat",
        max_tokens: 12,
        context: 64,
        sampling: { ...SAMPLING, temperature: 3, top_p: 0.95, repetition_penalty: 1.1 },
        seed: 4,
        slide: true,
        num_stories: 1,
        precision: "f32",
        gpu: () => openTestGpu(),
        write: (text, story) => void (written[story] = (written[story] ?? "") + text),
        ...changes,
      });
      assertEquals(written, result.stories.map(({ text }) => text));
      return { ...result, ...result.stories[0]! };
    };
    const first = await run();
    assertEquals([first.prompt_tokens, first.checkpoint], [8, NODE]);
    assert(first.tokens > 0 && first.tokens <= 12);
    assert(first.prefill_tokens_per_second > 0);
    assertEquals((await run()).text, first.text);
    const three = (await run({ num_stories: 3 })).stories;
    assertEquals(three.map(({ seed }) => seed), [4, 5, 6]);
    assertEquals(three[0]!.text, first.text);
    assertEquals(three[2]!.text, (await run({ seed: 6 })).text);
    const texts = three.map(({ text }) => text);
    for (const stories_at_once of [1, 2]) {
      const { stories } = await run({ num_stories: 3, stories_at_once });
      assertEquals(stories.map(({ text }) => text), texts);
    }
    const greedy = { ...SAMPLING, temperature: 0 };
    const [last, best] = [await run({ sampling: greedy }), await run({ which: "best" })];
    assert(last.text !== best.text);

    const refused = async (changes: Partial<GenerateOptions>, message: string) => {
      const gpu = () => Promise.reject(new Error("No device should be opened"));
      const error = await assertRejects(() => run({ gpu, ...changes }), UserError, message);
      assertEquals(error.exitCode, 2);
    };
    await refused({ sampling: { ...greedy, top_p: NaN } }, "--top-p is NaN");
    await refused({ sampling: { ...greedy, min_p: 2 } }, "--min-p is 2");
    await refused({ sampling: { ...greedy, temperature: -1 } }, "--temperature is -1");
    await refused({ context: 7 }, "The prompt has 8 tokens, but the context holds 7");
    await refused({ checkpoint: "train" }, "There is no checkpoint train");
  });
});

Deno.test("evaluateCheckpoint() measures a split and any text alike", async () => {
  await withStore(async (storeDir, dir) => {
    const run = (changes: Partial<EvaluateCheckpointOptions>) =>
      evaluateCheckpoint({
        checkpoint: NODE,
        storeDir,
        micro_batch: 4,
        precision: "f32",
        gpu: () => openTestGpu(),
        ...changes,
      });
    const split = await run({ split: "validation" });
    assertEquals([split.sequence_length, split.layers.length], [16, 2]);
    const text = someText(710).slice(10);
    const gzip = new Blob([JSON.stringify({ body: text })]).stream()
      .pipeThrough(new CompressionStream("gzip"));
    await Deno.writeTextFile(join(dir, "a.txt"), text);
    await Deno.writeTextFile(join(dir, "b.jsonl"), JSON.stringify({ text }) + "\n");
    await Deno.writeFile(join(dir, "c.json.gz"), gzip);
    const bytes = new TextEncoder().encode(text).length;
    const a = await run({ files: join(dir, "*.txt") });
    assertEquals([a.tokens, a.bytes, a.files], [bytes + 1, bytes, [join(dir, "a.txt")]]);
    const { nats, layers } = a;
    assertEquals((await run({ files: join(dir, "b.*") })).nats, nats);
    assertEquals((await run({ files: join(dir, "c.*"), text_field: "body" })).layers, layers);
    assertEquals((await run({ files: join(dir, "a.txt"), tokens: 100 })).tokens, 100);
    const other = await run({ files: join(dir, "a.txt"), sequence_length: 50, micro_batch: 1 });
    assert(other.nats !== nats);
    assertAlmostEquals(a.bits_per_byte!, nats * a.tokens / bytes / Math.LN2, 1e-9);

    const refused = async (changes: Partial<EvaluateCheckpointOptions>, message: string) => {
      const error = await assertRejects(() => run(changes), UserError, message);
      return error.exitCode;
    };
    assertEquals(await refused({}, "either --files or --split"), 2);
    assertEquals(await refused({ files: join(dir, "*.md") }, "No file matches --files"), 2);
    const field = await refused({ files: join(dir, "c.*") }, 'line 1 has no string "text"');
    assertEquals(field, 2);

    // Nothing of these is worth opening a device for.
    const unread = (changes: Partial<EvaluateCheckpointOptions>, message: string) =>
      refused(
        { gpu: () => Promise.reject(new Error("No device should be opened")), ...changes },
        message,
      );
    const write = (name: string, content: string | Uint8Array<ArrayBuffer>) =>
      Deno.writeFile(
        join(dir, name),
        typeof content === "string" ? new TextEncoder().encode(content) : content,
      );
    await write("empty.txt", "");
    await write("blank.txt", " \n\n\t\n");
    await write("none.jsonl", '{"text":""}\n\n');
    for (const name of ["empty.txt", "blank.txt", "none.jsonl"]) {
      const message = `--files has no text: ${join(dir, name)}; expected at least one word.`;
      assertEquals(await unread({ files: join(dir, name) }, message), 2);
    }
    const latin1 = Uint8Array.from("caf\xe9 au lait, s'il vous pla\xeet", (c) => c.charCodeAt(0));
    await write("[draft] latin1.txt", latin1);
    const files = join(dir, "[draft] latin1.txt");
    const offset = "the byte at offset 3 (0xE9) is not utf-8; expected text; --encoding names";
    assertEquals(await unread({ files }, offset), 2);
    assertEquals(await unread({ files, encoding: "klingon" }, "--encoding is klingon"), 2);
    const named = await run({ files, encoding: "latin1" });
    assertEquals([named.bytes, named.files], [latin1.length + 2, [files]]);
    const utf16 = Uint8Array.from([0xff, 0xfe, ...latin1].flatMap((b, i) => i < 2 ? [b] : [b, 0]));
    await write("utf16.txt", utf16);
    assertEquals((await run({ files: join(dir, "utf16.txt") })).nats, named.nats);
    // An empty document is none, as in the tokeniser.
    await write("gap.jsonl", `{"text":""}\n${JSON.stringify({ text })}\n{"text":""}\n`);
    assertEquals((await run({ files: join(dir, "gap.jsonl") })).nats, nats);

    // Stories of which each is a sequence of its own, by a separator or as rows.
    const stories = ["the cat sat.", "a dog ran to the river and back.", "why not?"];
    await write("stories.txt", stories.join("\n<|endoftext|>\n"));
    await write("stories.parquet", await parquetOf(stories));
    const separator = "<|endoftext|>";
    const single = await run({ files: join(dir, "stories.txt"), separator, documents: "single" });
    // Every byte but the first, and the end, of the first 16 predictions.
    assertEquals([single.tokens, single.bytes], [12 + 16 + 8, 11 + 16 + 7]);
    assertEquals([single.documents, a.documents], ["single", "packed"]);
    const rows = await run({ files: join(dir, "stories.parquet"), documents: "single" });
    assertEquals([rows.nats, rows.layers], [single.nats, single.layers]);
    const padded = await run({ files: join(dir, "stories.parquet"), documents: "padded" });
    assertEquals([padded.tokens, padded.bytes], [3 * 16, single.bytes]);
    const joined = await run({ files: join(dir, "stories.parquet") });
    assertEquals(joined.tokens, stories.join("").length + 3);
    const none = { files: join(dir, "stories.parquet"), separator };
    assertEquals(await unread(none, '--separator "<|endoftext|>" has no effect'), 2);
    await write("cut.parquet", (await parquetOf(stories)).slice(0, -30));
    const cut = `${join(dir, "cut.parquet")} can't be read as Parquet: `;
    assertEquals(await unread({ files: join(dir, "cut.parquet") }, cut), 2);

    await Deno.remove(join(storeDir, "nodes", "11"), { recursive: true });
    assertEquals(await refused({ split: "train" }, "is no longer in the store"), 2);
  });
});

Deno.test("The tasks generate and evaluate run with the permissions that they name", async () => {
  await withStore(async (storeDir, dir) => {
    await Deno.writeTextFile(join(dir, "a.txt"), someText(200));
    const task = async (...args: string[]) => {
      const { code, stdout, stderr } = await runTask(
        [...args, "--checkpoint", NODE, "--store", storeDir, "--json"],
        // The flag counts.
        { env: { ETHOS_GPU: "none" } },
      );
      assertEquals(code, 0, stdout + stderr);
      return JSON.parse(stdout);
    };
    const text = await task("generate", "--prompt", "a dog", "--max-tokens", "3", "--gpu", "deno");
    assertEquals([text.prompt, text.gpu.runtime], ["a dog", "deno"]);
    assertEquals([text.stories.length, text.stories[0].prompt_tokens], [1, 6]);
    const score = await task("evaluate", "--files", join(dir, "*.txt"), "--gpu", "deno");
    assert(score.nats > 0 && score.tokens > 200 && score.gpu.adapter !== "");
    await Deno.writeFile(join(dir, "a.parquet"), await parquetOf([someText(200)]));
    const rows = await task("evaluate", "--files", join(dir, "a.parquet"), "--gpu", "deno");
    assertEquals([rows.nats, rows.documents], [score.nats, "packed"]);
    const copy = await task("export-checkpoint", "--out", join(dir, "copy"));
    assertEquals(copy.files.length, 4);
  });
});
