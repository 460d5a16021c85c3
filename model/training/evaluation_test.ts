import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import type { ProductKeyEthosSection } from "../ffn/ethos/schema.ts";
import { openTestGpu } from "../gpu/testing.ts";
import type { Routing } from "../reference/ffn/product_key.ts";
import { PEER } from "../testing.ts";
import { referenceOf, tokenSource, withTrainer } from "./trainer_testing.ts";

Deno.test("Trainer.evaluate() scores single documents, whose padding counts nowhere", async () => {
  await withTrainer(await openTestGpu(), {}, async (trainer) => {
    const end = 60;
    const lengths = [3, 20, 2, 14, 9, 13];
    const rows = lengths.map((n, i) => [...tokenSource(n - 1, end, i).read(0, n - 1), end]);
    const all = Uint32Array.from([end, ...rows.flat(), end]);
    const source = { length: all.length, read: (at: number, n: number) => all.slice(at, at + n) };
    const reference = await referenceOf(trainer);
    const { num_experts } = trainer.config.ffn as ProductKeyEthosSection;
    for (const most of [Infinity, 25, 1]) {
      const counts = new Uint32Array(num_experts);
      let [nats, tokens, bytes] = [0, 0, 0];
      for (const document of rows) {
        const count = Math.min(13, document.length - 1, most - tokens);
        if (count === 0) break;
        const row = Uint32Array.from(document);
        const { crossEntropy, routings } = reference.evaluate({
          tokens: row.slice(0, count),
          targets: row.slice(1, count + 1),
          length: count,
        });
        nats += crossEntropy * count;
        tokens += count;
        bytes += row.slice(1, count + 1).filter((token) => token !== end).length;
        for (const expert of (routings.get(1) as Routing).index) counts[expert]! += 1;
      }
      const result = await trainer.evaluate(source, {
        documents: { endoftext: end },
        byteLength: (token) => token === end ? 0 : 1,
        ...most < Infinity && { tokens: most },
      });
      assertEquals([result.tokens, result.bytes], [tokens, bytes]);
      assert(Math.abs(result.total_nats / nats - 1) < 1e-5, `${result.total_nats}, not ${nats}`);
      assertEquals(result.usage[0]!.counts, counts);
    }
  });
});

Deno.test("Trainer.evaluate() measures what the reference does, whatever the batch leaves over", async () => {
  await withTrainer(await openTestGpu(), {}, async (trainer) => {
    const source = tokenSource(60, trainer.config.vocab_size, 9);
    const result = await trainer.evaluate(source);
    assertEquals(result.tokens, 59);
    const reference = await referenceOf(trainer);
    let nats = 0;
    const ethos = trainer.config.ffn as ProductKeyEthosSection;
    const counts = new Uint32Array(ethos.num_experts);
    const norms: number[] = [];
    // Sequences of 13, then the 7 predictions that are left: the rows after them do not matter.
    for (let at = 0; at < 59; at += 13) {
      const count = Math.min(13, 59 - at);
      const row = source.read(at, count + 1);
      const losses = reference.evaluate({
        tokens: row.slice(0, count),
        targets: row.slice(1),
        length: count,
      });
      nats += losses.crossEntropy * count;
      const { index, query } = losses.routings.get(1) as Routing;
      for (const expert of index) counts[expert]! += 1;
      // Of the first batch, two sequences.
      const width = ethos.d_query;
      for (let i = 0; at < 26 && i < query.data.length; i += width) {
        norms.push(Math.hypot(...query.data.subarray(i, i + width)));
      }
    }
    assert(Math.abs(result.total_nats / nats - 1) < 1e-5);
    assert(Math.abs(result.perplexity! - Math.exp(nats / 59)) < 1e-2);
    assertEquals(result.usage.map(({ layer }) => layer), [1]);
    const [usage] = result.usage;
    assertEquals(usage!.counts, counts);
    const mean = norms.reduce((a, b) => a + b) / norms.length;
    const variance = norms.reduce((sum, n) => sum + (n - mean) ** 2, 0) / norms.length;
    assert(Math.abs(usage!.statistics["query_norm_mean"]! / mean - 1) < 1e-5);
    assert(Math.abs(usage!.statistics["query_norm_std"]! / Math.sqrt(variance) - 1) < 1e-4);
    assertEquals(await trainer.evaluate(source), result);
    const part = await trainer.evaluate(source, { tokens: 20 });
    assertEquals(part.tokens, 20);
    assertEquals(part.usage[0]!.counts.reduce((a, b) => a + b), 20 * 2 * 3);
  });
});

Deno.test("Trainer.evaluate() tells how many experts a token keeps, and counts those alone", async () => {
  const gpu = await openTestGpu();
  const model = { ffn: { ...PEER, choice: "mass", mass: 0.38 } };
  await withTrainer(gpu, { model }, async (trainer) => {
    // Fresh sub-keys give nearly even scores, of which every head keeps as many.
    for (const key of ["k1", "k2"]) {
      const name = `layers.1.ffn.router.${key}`;
      const values = await trainer.readState("value", name);
      trainer.writeState("value", name, values.map((v) => 20 * v));
    }
    // One batch, whose numbers are reported.
    const source = tokenSource(27, trainer.config.vocab_size, 9);
    const row = source.read(0, 27);
    const batch = { tokens: row.slice(0, 26), targets: row.slice(1), length: 13 };
    const routing = (await referenceOf(trainer)).evaluate(batch).routings.get(1) as Routing;
    const kept = PEER.routing_heads * PEER.top_k;
    const numbers = Array.from(
      { length: 26 },
      (_, t) => routing.score.subarray(t * kept, (t + 1) * kept).filter((s) => s > 0).length,
    );
    const mean = numbers.reduce((a, b) => a + b) / 26;
    const variance = numbers.reduce((sum, n) => sum + (n - mean) ** 2, 0) / 26;
    const [usage] = (await trainer.evaluate(source)).usage;
    const of = (name: string) => usage!.statistics[`experts_per_token_${name}`]!;
    assertAlmostEquals(of("mean"), mean, 1e-5);
    assertAlmostEquals(of("std"), Math.sqrt(variance), 1e-5);
    assertEquals([of("min"), of("max")], [Math.min(...numbers), Math.max(...numbers)]);
    assert(of("min") < of("max"));
    assert(usage!.statistics["query_norm_mean"]! > 0);
    const counts = new Uint32Array(PEER.num_experts);
    routing.index.forEach((expert, i) => counts[expert]! += routing.score[i]! > 0 ? 1 : 0);
    assertEquals(usage!.counts, counts);
  });
});
