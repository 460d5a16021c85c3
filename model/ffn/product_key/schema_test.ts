import { assertEquals } from "@std/assert";
import { peerSchema } from "../peer/schema.ts";
import { keepRule, productKeyFields } from "./schema.ts";

/** The keys that a section is refused for, with the messages. */
const problems = (section: Record<string, unknown>) =>
  peerSchema.safeParse({ kind: "peer", num_experts: 64, top_k: 4, ...section }).error?.issues
    .map(({ path, message }) => `${path.join(".")}: ${message}`) ?? [];

Deno.test("a choice of experts goes with the keys that it reads, and no others", () => {
  assertEquals(problems({}), []);
  assertEquals(problems({ choice: "mass", mass: 0.9, min_k: 2 }), []);
  assertEquals(problems({ choice: "threshold", threshold: 0.1 }), []);
  assertEquals(problems({ choice: "mass" }), [
    "mass: choice mass needs it, a number above 0 and at most 1",
  ]);
  assertEquals(problems({ mass: 0.5, min_k: 1 }), [
    "mass: 0.5 has no effect with choice top_k; it goes with choice mass",
    "min_k: 1 has no effect with choice top_k; it goes with mass and threshold",
  ]);
  assertEquals(problems({ choice: "threshold", threshold: 0.1, mass: 0.5 }), [
    "mass: 0.5 has no effect with choice threshold; it goes with choice mass",
  ]);
  assertEquals(problems({ choice: "mass", mass: 0.5, min_k: 5 }), [
    "min_k: 5 is more than top_k 4",
  ]);
  assertEquals(problems({ choice: "mass", mass: 0 }).length, 1);
});

Deno.test("keepRule() is what a section says of the experts that a token keeps", () => {
  const section = peerSchema.parse({ kind: "peer", choice: "mass", mass: 0.9 });
  assertEquals(keepRule(section), { by: "mass", least: 0.9, min_k: 1 });
  assertEquals(keepRule(peerSchema.parse({ kind: "peer" })), undefined);
  assertEquals(Object.keys(productKeyFields).includes("choice"), true);
});
