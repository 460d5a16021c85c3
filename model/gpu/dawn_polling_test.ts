import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { paceDawn, pacer } from "./dawn_polling.ts";
import { openTestGpu, testRuntime } from "./testing.ts";

/** Milliseconds that a turn of the simulated event loop takes. */
const TURN = 0.03;

/** Time that passes only when something waits for it, and what a binding does with it. */
function simulation() {
  let now = 0;
  const queue: { at: number; callback: () => void }[] = [];
  const plan = (callback: () => void, delay: number) => queue.push({ at: now + delay, callback });
  const later = pacer({
    immediate: (callback) => plan(callback, TURN),
    timeout: (callback, milliseconds) => plan(callback, milliseconds),
    now: () => now,
  });
  /** Waits until a moment, as Dawn's binding does; tells how often it asked, and when it saw that the wait was over. */
  const wait = (until: number) => {
    let questions = 0;
    let seen: number | undefined;
    const ask = () => {
      questions++;
      if (now >= until) seen = now;
      else later(ask);
    };
    later(ask);
    while (seen === undefined) {
      queue.sort((a, b) => a.at - b.at);
      const { at, callback } = queue.shift()!;
      now = at;
      callback();
    }
    assertEquals(queue.length, 0);
    return { questions, seen };
  };
  return { wait, now: () => now };
}

Deno.test("pacer() asks seldom, and is late by a twentieth or 20 ms at most", () => {
  for (const [length, questions] of [[1, 40], [10, 100], [100, 180], [1000, 260], [60_000, 3300]]) {
    const result = simulation().wait(length!);
    assert(result.questions <= questions!, `${result.questions} questions in ${length} ms`);
    const late = result.seen - length!;
    assert(late <= Math.min(length! * 0.05, 20) + 2 * TURN, `${late} ms late after ${length} ms`);
  }
});

Deno.test("pacer() takes every wait for itself", () => {
  const { wait, now } = simulation();
  wait(5000);
  const start = now();
  const { seen } = wait(start + 1);
  assert(seen - start < 1.1, `seen after ${seen - start} ms`);
});

Deno.test("pacer() ends a wait whose callback throws", () => {
  let now = 0;
  let next = () => {};
  const timers: string[] = [];
  const later = pacer({
    immediate: (callback) => (timers.push("immediate"), next = callback),
    timeout: (callback) => (timers.push("timeout"), next = callback),
    now: () => now,
  });
  // One wait of a second, which puts its third question off, then fails.
  later(() => {
    now = 1000;
    later(() => {
      throw new Error("The device is gone");
    });
  });
  next();
  now = 2000;
  assertThrows(() => next(), Error, "The device is gone");
  later(() => {});
  assertEquals(timers, ["immediate", "timeout", "immediate"]);
});

Deno.test("paceDawn() leaves everyone else's setImmediate alone", async () => {
  const former = globalThis.setImmediate;
  const restore = paceDawn();
  try {
    assertNotEquals(globalThis.setImmediate, former);
    const passed = await new Promise<unknown[]>((resolve) =>
      setImmediate((...args: unknown[]) => resolve(args), 1, "two")
    );
    assertEquals(passed, [1, "two"]);
    let called = false;
    clearImmediate(setImmediate(() => called = true));
    await new Promise<void>((resolve) => setImmediate(resolve));
    assertEquals(called, false);
  } finally {
    restore();
  }
  assertEquals(globalThis.setImmediate, former);
});

Deno.test("Waiting for the GPU makes few callbacks", async () => {
  const gpu = await openTestGpu();
  const { device } = gpu;
  // A second or two on SwiftShader, where 30,000 callbacks would be made a second.
  const rounds = 60_000_000;
  const pipeline = await gpu.attempt("Kernel slow", () =>
    device.createComputePipeline({
      layout: "auto",
      compute: {
        module: device.createShaderModule({
          code: `
            @group(0) @binding(0) var<storage, read_write> x: array<u32>;
            @compute @workgroup_size(1) fn main() {
              var sum = x[0];
              for (var i = 0u; i < x[1]; i++) { sum = sum * 1664525u + i; }
              x[0] = sum;
            }`,
        }),
      },
    }));
  const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST;
  const buffer = device.createBuffer({ size: 8, usage });
  device.queue.writeBuffer(buffer, 0, new Uint32Array([1, rounds]));
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(
    0,
    device.createBindGroup({
      layout: pipeline.getBindGroupLayout(0),
      entries: [{ binding: 0, resource: { buffer } }],
    }),
  );
  pass.dispatchWorkgroups(1);
  pass.end();
  const paced = globalThis.setImmediate;
  let callbacks = 0;
  const count = (callback: () => void) => {
    callbacks++;
    return paced(callback);
  };
  globalThis.setImmediate = Object.assign(count, paced) as typeof setImmediate;
  try {
    device.queue.submit([encoder.finish()]);
    await gpu.guard(device.queue.onSubmittedWorkDone());
  } finally {
    globalThis.setImmediate = paced;
  }
  buffer.destroy();
  // Dawn still asks through the global, or pacing would be in vain.
  if (testRuntime() === "dawn") assert(callbacks > 0);
  assert(callbacks < 1000, `${callbacks} callbacks`);
});
