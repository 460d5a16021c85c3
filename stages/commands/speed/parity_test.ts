import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { withFolder } from "../../../model/checkpoint/folder_testing.ts";
import { openGpu } from "../../../model/gpu/device.ts";
import { findSwiftShader } from "../../../model/gpu/testing.ts";
import { UserError } from "../../../pipeline/errors.ts";
import { writeStore } from "../model/checkpoint_testing.ts";
import {
  deviceOpener,
  findFaults,
  parseWays,
  readSavedParity,
  type SavedParity,
} from "./parity.ts";
import { runTask } from "./task_testing.ts";

const ROOT = fromFileUrl(new URL("../../..", import.meta.url));

const parity = (...args: string[]) => runTask(["parity", ...args]);

const MINIMAL = ["--config", "configs/testing/minimal.yaml", "--seed", "4"];

Deno.test("The task parity measures ways, keeps numbers, and draws what was kept", async () => {
  await withFolder(async (folder) => {
    const tokens = join(folder, "text.u16");
    // Few ids, so that there is something to learn.
    await Deno.writeFile(
      tokens,
      new Uint8Array(Uint16Array.from({ length: 2000 }, (_, i) => (i * i) % 17 * 18).buffer),
    );
    const [first, second] = [join(folder, "f32.json"), join(folder, "mixed.json")];
    const text = [...MINIMAL, "--tokens", tokens, "--steps", "4", "--scratch", join(folder, "s")];
    const run = await parity(
      ...[...text, "--ways", "deno:f32", "--gradients", "--twice", "--identity-steps", "2"],
      ...["--save", first],
    );
    assertEquals(run.code, 0, run.stderr);
    assertMatch(run.stdout, /deno:f32 +\d\.\d{4} +– +– +– +same +– +0/);
    assertStringIncludes(run.stdout, "4 updates of 64 tokens: text.u16, 2,000 tokens");
    assertStringIncludes(run.stderr, "deno:f32: second run, update 2: loss");
    const mixed = await parity(
      ...[...text, "--ways", "deno:mixed", "--gradients", "--resume", "--save", second],
    );
    // Exit code 1 would be an honest answer for so small a model: gradients are what they are.
    assert(mixed.code <= 1, mixed.stderr);
    assertMatch(mixed.stdout, /deno:mixed +\d\.\d{4} +– +– +\d\.\d{6} +– +same +0/);

    // The same line again has nothing to do; --continue keeps what is finished.
    const kept = await Deno.readTextFile(second);
    const again = ["--ways", "deno:mixed", "--save", second, "--continue"];
    const nothing = await parity(...text, "--resume", "--gradients", ...again);
    assertEquals([nothing.code, nothing.stdout], [mixed.code, mixed.stdout]);
    assertStringIncludes(nothing.stderr, "deno:mixed: measured before, ");
    assertEquals(await Deno.readTextFile(second), kept);
    const other = await parity(...text, ...again, "--set", "train.clip_norm=2");
    assertEquals(other.code, 2);
    assertStringIncludes(other.stderr, `${second} is of another training: train differ`);

    const figures = join(folder, "figures");
    const drawn = await parity(
      ...["--figure-from", second, "--figure-from", first, "--out", figures, "--json"],
    );
    const both: SavedParity = JSON.parse(drawn.stdout);
    assertEquals(both.ways.map(({ way }) => way), ["deno:mixed", "deno:f32"]);
    assertEquals(both.curves.map(({ way, steps }) => [way, steps]), [["deno:mixed", 4]]);
    assert(both.curves[0]!.within);
    assertEquals(both.measured_on?.deno?.deno, Deno.version.deno);
    const files = await Array.fromAsync(Deno.readDir(figures), ({ name }) => name);
    assertEquals(
      files.sort(),
      ["csv", "svg", "vl.json"].map((kind) => `parity_curves.${kind}`)
        .concat("parity_curves@2x.png").sort(),
    );
    const svg = await Deno.readTextFile(join(figures, "parity_curves.svg"));
    assertStringIncludes(svg, "Difference from Deno, f32, nats");
    assertMatch(svg, /Deno, mixed: at most 0\.0\d+ apart, 0\.0\d+ in 10-step means/);
    const csv = await Deno.readTextFile(join(figures, "parity_curves.csv"));
    assertEquals(csv.split("\n").slice(0, 1), ["way,update,nats,difference"]);
    assertEquals(csv.trim().split("\n").length, 1 + 2 * 4);

    const damaged = join(folder, "damaged.json");
    await Deno.writeTextFile(damaged, JSON.stringify({ ...both, ways: [{ way: "cpu:f64" }] }));
    const error = await assertRejects(() => readSavedParity([damaged]), UserError);
    assertMatch(error.message, /is not what parity --save writes: ways\.0\.way: /);
    await assertRejects(() => readSavedParity([first, first]), UserError, "has deno:f32, which");
    await assertRejects(() => readSavedParity([tokens]), UserError, "which cannot be read");
  });
});

Deno.test("The task parity takes a dataset of the store, with its vocabulary", async () => {
  await withFolder(async (folder) => {
    await writeStore(folder);
    const { code, stdout, stderr } = await parity(
      ...[...MINIMAL, "--store", folder, "--steps", "1", "--ways", "deno:f32", "--json"],
    );
    assertEquals(code, 0, stderr);
    const { setup }: SavedParity = JSON.parse(stdout);
    assertEquals([setup.config.vocab_size, setup.text.tokens], [257, setup.text.tokens]);
    assertMatch(setup.text.name, /^tokenize 1{12}$/);
  });
});

Deno.test("parity stops when it is interrupted, keeps the curve, and leaves nothing else behind", async () => {
  await withFolder(async (folder) => {
    await writeStore(join(folder, "store"));
    const temporary = join(folder, "tmp");
    await Deno.mkdir(temporary);
    const child = new Deno.Command(Deno.execPath(), {
      args: [
        ...["run", "--allow-all", "stages/main.ts", "parity", ...MINIMAL, "--steps", "20000"],
        ...["--store", join(folder, "store"), "--ways", "deno:f32"],
        ...["--save", join(folder, "a.json")],
      ],
      cwd: ROOT,
      env: { TMPDIR: temporary },
      stderr: "piped",
    }).spawn();
    let said = "";
    let interrupted = false;
    for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) {
      said += text;
      if (interrupted || !said.includes("training, update")) continue;
      interrupted = true;
      child.kill("SIGINT");
    }
    assertEquals((await child.status).code, 130, said);
    assertStringIncludes(said, "Stopping at a safe place");
    assertEquals(await Array.fromAsync(Deno.readDir(temporary)), []);
    const saved = await readSavedParity([join(folder, "a.json")]);
    const [{ stopped, losses }] = saved.ways as [SavedParity["ways"][0]];
    assertEquals([stopped, losses.length % 20], [true, 0]);
    assertEquals(findFaults(saved), [
      `deno:f32 was interrupted after ${losses.length} updates; --continue does it again.`,
    ]);
  });
});

Deno.test("The task parity refuses what it cannot do before it opens a device", async () => {
  await withFolder(async (folder) => {
    const tokens = join(folder, "text.u32");
    await Deno.writeFile(tokens, new Uint8Array(4 * 40));
    const refused = async (message: string, ...args: string[]) => {
      const { code, stderr } = await parity(...MINIMAL, "--store", folder, ...args);
      assertEquals(code, 2, stderr);
      assertStringIncludes(stderr, message);
    };
    const short = ["--tokens", tokens, "--ways", "deno:mixed"];
    await Promise.all([
      refused('--ways has "deno:f16"; expected RUNTIME:PRECISION', "--ways", "deno:f16"),
      refused("--steps is 0; expected a whole number from 1.", "--steps", "0"),
      refused("neither is given", "--identity-steps", "3"),
      refused("the file of --save, which is not given", "--continue"),
      refused(
        "expected at most --steps, 5",
        "--steps",
        "5",
        "--twice",
        "--identity-steps",
        "6",
      ),
      refused("There is no tokenised text tokenize in", "--steps", "5"),
    ]);
    await Promise.all([
      refused("--tokens is /nowhere, which cannot be used", "--tokens", "/nowhere"),
      refused("--dawn-icd is /nowhere, which is no file", "--dawn-icd", "/nowhere"),
      refused("--figure-from is /nowhere, which cannot be read", "--figure-from", "/nowhere"),
      refused(
        "has 80 tokens; one sequence of 80 needs 81",
        ...short,
        "--set",
        "train.sequence_length=80",
      ),
      refused("None of the ways is f32", ...short, "--gradients"),
    ]);
  });
});

Deno.test("parseWays() reads a list", () => {
  assertEquals(parseWays("deno:f32, dawn:mixed"), [
    { runtime: "deno", precision: "f32" },
    { runtime: "dawn", precision: "mixed" },
  ]);
  assertThrows(() => parseWays("deno:f32,deno:f32"), UserError, "--ways has deno:f32 twice.");
  assertEquals(parseWays("deno:f32:rounded"), [
    { runtime: "deno", precision: "f32", rounded: true },
  ]);
  assertThrows(() => parseWays("deno:f32:x"), UserError, '--ways has "deno:f32:x"');
  assertThrows(() => parseWays("deno:mixed:rounded"), UserError, "f32, mixed or f32:rounded");
  assertThrows(() => parseWays(""), UserError, '--ways has ""');
});

Deno.test("findFaults() says what does not agree", () => {
  const bits = { weights_sha256: "", same_losses: true };
  const cosine = { name: "layers.1.ffn.z", cosine: 0.99, length_ratio: 1 };
  const result = {
    ways: [
      {
        way: "deno:f32",
        identity: { twice: { ...bits, same_weights: true } },
        rounding: { below: [cosine, cosine], lowest: { ...cosine, cosine: 0.98 } },
      },
      {
        way: "deno:mixed",
        identity: {
          twice: { ...bits, same_weights: false },
          resumed: { ...bits, same_losses: false, same_weights: false },
        },
        gradients: { reference: "deno:f32", below: [cosine], parameters: [cosine] },
      },
      { way: "deno:f32:rounded", rounded: true },
    ],
    curves: [
      {
        way: "deno:f32:rounded",
        reference: "deno:f32",
        largest: { nats: 0.04, step: 9 },
        within: false,
      },
      { way: "deno:mixed", reference: "deno:f32", largest: { nats: 0.03, step: 6 }, within: false },
      { way: "dawn:f32", reference: "deno:f32", largest: { nats: 0.001, step: 2 }, within: true },
      { way: "dawn:mixed", reference: "deno:f32", largest: { nats: null, step: 0 }, within: false },
    ],
  };
  assertEquals(findFaults(result as unknown as SavedParity), [
    "deno:mixed is 0.0300 nats from deno:f32 in update 7; at most 0.02. From weights rounded to halves f32 itself is up to 0.0400 away.",
    "The loss of dawn:mixed or of deno:f32 is not finite in update 1.",
    "deno:mixed gave other weights in a second run.",
    "deno:mixed gave other losses and weights after it was stopped and resumed.",
    "1 of 1 gradients of deno:mixed have a cosine below 0.999 with those of deno:f32; the lowest is 0.990000, of layers.1.ffn.z. With its own weights rounded to halves deno:f32 has 2; the lowest is 0.980000.",
  ]);
});

Deno.test("deviceOpener() has Dawn on a driver of its own, and leaves Deno's as it is", async () => {
  const icd = findSwiftShader();
  if (icd === undefined) return;
  const before = await openGpu();
  const { description } = before.adapter;
  before.close();
  const names = ["VK_ICD_FILENAMES", "VK_DRIVER_FILES"];
  const environment = names.map((name) => Deno.env.get(name));
  const open = deviceOpener(icd);
  const dawn = await open("dawn");
  assertEquals(dawn.runtime, "dawn");
  assertStringIncludes(dawn.adapter.description, "SwiftShader");
  dawn.close();
  assertEquals(names.map((name) => Deno.env.get(name)), environment);
  const after = await open("deno");
  assertEquals([after.runtime, after.adapter.description], ["deno", description]);
  after.close();
});
