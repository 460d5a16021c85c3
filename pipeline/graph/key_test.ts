import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { UserError } from "../errors.ts";
import {
  canonicalJson,
  explainDifference,
  flattenComponents,
  type KeyComponents,
  nodeKey,
  sha256,
  toJson,
} from "./key.ts";

const BASE: KeyComponents = {
  format: 1,
  stage: "train",
  params: { model: { d_latent: 64 }, list: [1, 2] },
  inputs: { tokens: [{ node: "tokenize", digest: "aa" }] },
  code: { digest: "c0", files: { "a.ts": "1", "b.ts": "2" }, packages: { "zod@4.6.6": "i" } },
};

Deno.test("canonicalJson() follows RFC 8785", () => {
  // The example of section 3.2.2 of the RFC, its numbers and its order.
  const value = {
    numbers: [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
    string: '€$\u000f\nA\'B"\\\\"/',
    literals: [null, true, false],
  };
  assertEquals(
    canonicalJson(value),
    '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],' +
      '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}',
  );
  assertEquals(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
});

Deno.test("nodeKey() depends on every part, and on nothing else", () => {
  const key = nodeKey(BASE);
  assertEquals(key, nodeKey({ ...BASE, params: { list: [1, 2], model: { d_latent: 64 } } }));
  const others: KeyComponents[] = [
    { ...BASE, stage: "test" },
    { ...BASE, params: { model: { d_latent: 65 }, list: [1, 2] } },
    { ...BASE, inputs: { tokens: [{ node: "tokenize", digest: "ab" }] } },
    { ...BASE, inputs: { other: BASE.inputs["tokens"]! } },
    { ...BASE, code: { ...BASE.code, digest: "c1" } },
  ];
  for (const other of others) assertNotEquals(nodeKey(other), key);
});

Deno.test("explainDifference() names parameters, files, packages and inputs", () => {
  assertEquals(explainDifference(BASE, BASE), []);
  const after: KeyComponents = {
    ...BASE,
    params: { model: { d_latent: 128 }, list: [1, 2, 3] },
    inputs: { tokens: [{ node: "tokenize", digest: "bb" }], extra: [{ node: "x", digest: "1" }] },
    code: { digest: "c1", files: { "a.ts": "9", "c.ts": "3" }, packages: { "zod@4.6.7": "j" } },
  };
  assertEquals(explainDifference(BASE, after), [
    "params.list[2] added: 3",
    "params.model.d_latent 64 → 128",
    "code: a.ts changed",
    "code: b.ts removed",
    "code: c.ts added",
    "package: zod 4.6.6 → 4.6.7",
    "input extra[0]: x added",
    "input tokens[0]: tokenize changed",
  ]);
});

Deno.test("flattenComponents() has a row for each part", () => {
  assertEquals([...flattenComponents(BASE)], [
    ["stage", "train"],
    ["params.model.d_latent", "64"],
    ["params.list[0]", "1"],
    ["params.list[1]", "2"],
    ["code.a.ts", "1"],
    ["code.b.ts", "2"],
    ["package.zod@4.6.6", "i"],
    ["inputs.tokens[0]", "tokenize aa"],
  ]);
});

Deno.test("toJson() takes what JSON can hold and names what it can't", () => {
  assertEquals(toJson({ a: [1, null, "x"], b: undefined }, "value"), { a: [1, null, "x"] });
  const bad: [unknown, string][] = [
    [{ a: { b: NaN } }, "value.a.b is NaN"],
    [[1, Infinity], "value[1] is Infinity"],
    [{ a: new Date(0) }, "value.a is a Date"],
    [{ a: new Float32Array(1) }, "value.a is a Float32Array"],
    [{ a: () => 1 }, "value.a is of type function"],
    [1n, "value is of type bigint"],
  ];
  for (const [value, message] of bad) {
    const error = assertThrows(() => toJson(value, "value"), UserError);
    assert(error.message.startsWith(message), error.message);
  }
});
