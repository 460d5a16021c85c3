import { assertEquals, assertStringIncludes } from "@std/assert";
import type { JobEnd } from "../events.ts";
import { runTask } from "./task.ts";
import { type TaskName, type Wave, WaveFiles } from "./waves.ts";

const KEY = "a".repeat(64);
const NAME: TaskName = { run: "r", wave: "train-1", index: 0 };
const WAVE: Wave = {
  format: 1,
  name: "train-1",
  run: "r",
  stage: "train",
  cluster: "c",
  throttle: 1,
  tasks: [{ key: KEY, node: "train" }],
};

/** A store with a wave of one task. */
class Scene implements AsyncDisposable {
  readonly requeued: string[] = [];
  readonly lines: string[] = [];

  private constructor(readonly store: string, readonly waves: WaveFiles) {}

  static async create(): Promise<Scene> {
    const store = await Deno.makeTempDir();
    const waves = new WaveFiles(store);
    await waves.write(WAVE, "#!/bin/bash\n");
    return new Scene(store, waves);
  }

  run(work: (options: { restarted: boolean }) => Promise<JobEnd>, refuse = false) {
    return runTask({
      name: NAME,
      key: KEY,
      store: this.store,
      state: `${this.store}/state`,
      say: (line) => this.lines.push(line),
      work,
      job: "12",
      requeue: (job) => {
        this.requeued.push(job);
        return refuse ? Promise.reject(new Error("Requeue is disabled.")) : Promise.resolve();
      },
    });
  }

  /** The time limit is near: keeps something unless `idle`, and stops. */
  stop({ idle = false } = {}): () => Promise<JobEnd> {
    return async () => {
      Deno.kill(Deno.pid, "SIGUSR2");
      await new Promise((resolve) => setTimeout(resolve, 50));
      await Deno.mkdir(`${this.store}/state`, { recursive: true });
      if (!idle) await Deno.writeTextFile(`${this.store}/state/step`, crypto.randomUUID());
      return { type: "end", state: "interrupted" };
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.store, { recursive: true });
  }
}

Deno.test("A task notes its end, and that it has started before", async () => {
  await using scene = await Scene.create();
  const restarts: boolean[] = [];
  const work = ({ restarted }: { restarted: boolean }): Promise<JobEnd> => {
    restarts.push(restarted);
    return Promise.resolve({ type: "end", state: "failed", message: "No" });
  };
  await scene.run(work);
  assertEquals(await scene.waves.endOf(NAME), { state: "failed", message: "No" });
  await scene.run(async (options) => {
    assertEquals(await scene.waves.endOf(NAME), undefined, "it has not ended again");
    return await work(options);
  });
  assertEquals(restarts, [false, true]);
});

Deno.test("A task whose time is nearly up puts itself back into the queue", async () => {
  await using scene = await Scene.create();
  assertEquals(await scene.run(scene.stop()), { state: "paused" });
  assertEquals(await scene.run(scene.stop()), { state: "paused" });
  assertEquals(scene.requeued, ["12", "12"]);
  assertEquals(await scene.run(scene.stop(), true), { state: "paused" });
  assertEquals(scene.lines, ["Not put back into the queue: Requeue is disabled"]);
});

Deno.test("A task that keeps nothing within its time limit does not go round for ever", async () => {
  await using scene = await Scene.create();
  await scene.run(scene.stop());
  const end = await scene.run(scene.stop({ idle: true }));
  assertEquals(end.state, "refused");
  assertStringIncludes(end.message!, "The time limit is too short for a first checkpoint");
  assertEquals(scene.requeued.length, 1);
});

Deno.test("A task that was told to stop before its time leaves the rest to Slurm", async () => {
  await using scene = await Scene.create();
  const end = await scene.run(() => Promise.resolve({ type: "end", state: "interrupted" }));
  assertEquals([end.state, scene.requeued], ["paused", []]);
});

Deno.test("A task ends at once when another has its node", async () => {
  await using scene = await Scene.create();
  await scene.waves.write({ ...WAVE, name: "train-2" }, "#!/bin/bash\n");
  const never = () => Promise.reject(new Error("it ran"));
  assertEquals((await scene.run(never)).state, "superseded");
  await scene.waves.release(KEY);
  assertEquals((await scene.run(never)).state, "superseded");
  assertEquals((await scene.waves.endOf(NAME))?.state, "superseded");
});

Deno.test("A task that published and is started again still says so", async () => {
  await using scene = await Scene.create();
  const published = { state: "published" } as const;
  await scene.waves.noteEnd(NAME, published);
  await scene.waves.release(KEY);
  const never = () => Promise.reject(new Error("it ran"));
  assertEquals((await scene.run(never)).state, "superseded");
  assertEquals(await scene.waves.endOf(NAME), published);
});
