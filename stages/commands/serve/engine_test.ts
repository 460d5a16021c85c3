import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { openTestGpu } from "../../../model/gpu/testing.ts";
import { mostLikely } from "../../../model/inference/log_probability.ts";
import { openInferenceModel } from "../../../model/inference/open.ts";
import { Engine } from "./engine.ts";
import { writeByteModel } from "./serve_testing.ts";

Deno.test("Engine computes what each asks for: company, failures and departures change nothing", async () => {
  const folder = await Deno.makeTempDir();
  await writeByteModel(folder);
  const gpu = await openTestGpu();
  using model = await openInferenceModel(gpu, join(folder, "model.safetensors"));
  const engine = await Engine.create(model, { context: 40, sequences: 2, batch_tokens: 128 });
  const { signal } = new AbortController();
  const text = async (first: number, count: number) => {
    const chosen: number[] = [];
    const tokens = [first, 7];
    const end = await engine.generate({
      tokens,
      signal,
      next(logits) {
        chosen.push(mostLikely(logits));
        return chosen.length < count ? chosen.at(-1) : undefined;
      },
    });
    return { chosen, end };
  };
  const scores = async (first: number) => {
    const found: number[] = [];
    await engine.score({
      tokens: [first, 2, 3],
      from: 1,
      signal,
      next: 5,
      take: (position, { log_probability }) => void found.push(position, log_probability!),
    });
    return found;
  };
  const firsts = [1, 2, 3, 4, 5];
  const alone: { readonly texts: unknown; readonly scores: unknown }[] = [];
  for (const first of firsts) {
    alone.push({ texts: await text(first, 6), scores: await scores(first) });
  }
  const leaving = new AbortController();
  let steps = 0;
  const left = engine.generate({
    tokens: [9],
    signal: leaving.signal,
    next() {
      if (++steps === 3) leaving.abort(new Error("left"));
      return 1;
    },
  });
  const failing = engine.generate({
    tokens: [8],
    signal,
    next: () => {
      throw new Error("no choice");
    },
  });
  const badScore = engine.score({
    tokens: [8],
    from: 0,
    signal,
    take: () => {
      throw new Error("no place");
    },
  });
  const together = Promise.all(firsts.map(async (first) => {
    const [texts, found] = await Promise.all([text(first, 6), scores(first)]);
    return { texts, scores: found };
  }));
  await Promise.all([
    assertRejects(() => left, Error, "left"),
    assertRejects(() => failing, Error, "no choice"),
    assertRejects(() => badScore, Error, "no place"),
  ]);
  assertEquals(await together, alone as Awaited<typeof together>);
  assertEquals(steps, 3);
  // A request that would not be taken is never begun.
  await assertRejects(
    () => engine.score({ tokens: [1], from: 0, signal: leaving.signal, take() {} }),
    Error,
    "left",
  );
  assertEquals((await text(1, 100)).end, "full");
  assertEquals((await text(1, 100)).chosen.length, 39);
  assertEquals(engine.load, { waiting: 0, generating: 0 });
  const late = Promise.all([text(1, 30), text(2, 30), text(3, 30)]);
  const refused = assertRejects(() => late, Error, "The engine is closed");
  await engine[Symbol.asyncDispose]();
  await refused;
  await assertRejects(() => scores(1), Error, "The engine is closed");
  assert(steps === 3);
  await Deno.remove(folder, { recursive: true });
});
