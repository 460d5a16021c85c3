import { assert, assertEquals, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { decodeMetrics, encodeMetrics, MetricTable } from "./metrics.ts";

Deno.test("a table survives a kill from what was flushed, and rewinds", () => {
  const dir = Deno.makeTempDirSync();
  const path = join(dir, "metrics.csv");
  const first = new MetricTable(() => path);
  first.write(0, { loss: 3, norm: 1 });
  first.measure(0, { seconds: 0.5 });
  first.write(1, { loss: 2 });
  first.flush();
  first.write(2, { loss: 1 }); // never flushed: lost with the process
  Deno.writeTextFileSync(path, "d,9,los", { append: true }); // a line that the kill cut short

  const second = new MetricTable(() => path);
  second.load(Deno.readTextFileSync(path));
  second.rewind(1);
  second.write(1, { loss: 2.5 });
  second.flush();
  second.write(2, { loss: 1.5 });
  second.flush();
  assertEquals(
    Deno.readTextFileSync(path),
    "d,0,loss,3\nd,0,norm,1\nm,0,seconds,0.5\nd,1,loss,2.5\nd,2,loss,1.5\n",
  );
  assertEquals(second.rows(false).map((row) => row.value), [3, 1, 2.5, 1.5]);
  assertEquals(second.rows(true), [{ step: 0, name: "seconds", value: 0.5, measured: true }]);
  Deno.removeSync(dir, { recursive: true });
});

Deno.test("the last number said of a step and a name wins, ordered by step then name", () => {
  const table = new MetricTable(() => "unused");
  table.write(5, { b: 1, a: 2 });
  table.write(1, { a: 3 });
  table.write(5, { a: 4 });
  assertEquals(
    table.rows(false).map(({ step, name, value }) => [step, name, value]),
    [[1, "a", 3], [5, "a", 4], [5, "b", 1]],
  );
});

Deno.test("numbers come back bit for bit, and so does null", () => {
  const values = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, null, -7];
  const rows = values.map((value, step) => ({ step, name: "x", value, measured: false }));
  assertEquals(decodeMetrics(encodeMetrics(rows), false), rows);
  assert(decodeMetrics(encodeMetrics([]), true).length === 0);
});

Deno.test("a number that is not finite is null, also after a kill and in files of earlier versions", () => {
  const dir = Deno.makeTempDirSync();
  const path = join(dir, "metrics.csv");
  const table = new MetricTable(() => path);
  table.write(0, { a: Infinity, b: NaN, c: null, d: 1 });
  table.measure(0, { e: -Infinity });
  table.flush();
  const again = new MetricTable(() => path);
  again.load(Deno.readTextFileSync(path));
  for (
    const { rows } of [table, again].map((t) => ({ rows: [...t.rows(false), ...t.rows(true)] }))
  ) {
    assertEquals(rows.map(({ value }) => value), [null, null, null, 1, null]);
  }
  const earlier = "step,name,value\n1,x,NaN\n2,x,Infinity\n3,x,-Infinity\n4,x,4\n";
  assertEquals(decodeMetrics(earlier, false).map(({ value }) => value), [null, null, null, 4]);
  Deno.removeSync(dir, { recursive: true });
});

Deno.test("bad steps and names are refused", () => {
  const table = new MetricTable(() => "unused");
  assertThrows(() => table.write(-1, { a: 1 }), RangeError, "Step -1");
  assertThrows(() => table.write(0.5, { a: 1 }), RangeError, "Step 0.5");
  assertThrows(() => table.write(0, { "a,b": 1 }), TypeError, "comma");
});

Deno.test("rows are on the disk a second after the last flush, and a rewind forgets them as it forgets others", () => {
  const dir = Deno.makeTempDirSync();
  const path = join(dir, "metrics.csv");
  let now = 0;
  const table = new MetricTable(() => path, () => now);
  const written = () => Deno.readTextFileSync(path);
  table.write(1, { loss: 3 });
  now = 999;
  table.flushOld();
  assertThrows(written, Deno.errors.NotFound);
  now = 1000;
  table.write(2, { loss: 2 });
  assertEquals(written(), "d,1,loss,3\nd,2,loss,2\n");
  table.write(3, { loss: 1 });
  now = 2000;
  table.flushOld();
  assertEquals(written(), "d,1,loss,3\nd,2,loss,2\nd,3,loss,1\n");

  const resumed = new MetricTable(() => path, () => now);
  resumed.load(written());
  resumed.rewind(2);
  resumed.write(2, { loss: 2.5 });
  resumed.flush();
  assertEquals(written(), "d,1,loss,3\nd,2,loss,2.5\n");
  assertEquals(resumed.rows(false).map(({ step, value }) => [step, value]), [[1, 3], [2, 2.5]]);
  Deno.removeSync(dir, { recursive: true });
});

Deno.test("a disk that refuses a timed flush fails no row, and the stage's own flush says so", () => {
  const dir = Deno.makeTempDirSync();
  let now = 0;
  const table = new MetricTable(() => join(dir, "absent", "metrics.csv"), () => now);
  now = 5000;
  table.write(1, { loss: 3 });
  assertThrows(() => table.flush(), Deno.errors.NotFound);
  Deno.mkdirSync(join(dir, "absent"));
  table.flush();
  assertEquals(Deno.readTextFileSync(join(dir, "absent", "metrics.csv")), "d,1,loss,3\n");
  Deno.removeSync(dir, { recursive: true });
});
