/** Ends of ranks that are no ends of a training, each in one line. */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { ensureOpenMpi, TEST_ENVIRONMENT } from "../../../model/training/mpi/open_mpi_testing.ts";
import type { TrainingHooks } from "../../../model/training/training.ts";
import { SMALL_TRAINING, writeDataset } from "../../commands/model/checkpoint_testing.ts";
import type { TrainParams } from "../train.ts";
import { explainEnd, trainOnRanks } from "./launch.ts";
import { parseMessage } from "./messages.ts";

const ignore = () => {};
const HOOKS: TrainingHooks = {
  rewind: ignore,
  write: ignore,
  measure: ignore,
  sample: ignore,
  flush: ignore,
  progress: ignore,
  info: ignore,
  warn: ignore,
};

/** Trains with so many ranks in a process whose key covers no kind of layer, which is how it fails. */
async function failure(ranks: number, environment: Readonly<Record<string, string>>) {
  const folder = await Deno.makeTempDir();
  const before = Object.keys(environment).map((name) => [name, Deno.env.get(name)] as const);
  try {
    const dataset = await writeDataset(`${folder}/dataset`);
    const { model, train, seed } = SMALL_TRAINING as unknown as TrainParams;
    for (const [name, value] of Object.entries(environment)) Deno.env.set(name, value);
    const error = await assertRejects(() =>
      trainOnRanks({
        config: { ...model, vocab_size: 257 },
        train: { ...train, gradient_accumulation: 2, gradient_groups: 2 },
        seed,
        dataset: {
          vocabulary: dataset.file("tokens", "vocabulary.json"),
          train: [dataset.file("tokens", "train/00000.tokens")],
          validation: [dataset.file("tokens", "validation/00000.tokens")],
        },
        folder: `${folder}/checkpoints`,
        runtime: "deno",
        modules: [],
      }, {
        ranks,
        stateDir: folder,
        hooks: HOOKS,
        signal: new AbortController().signal,
        provenance: ignore,
      }), Error);
    assert(!error.message.includes("\n"), error.message);
    return error.message;
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) Deno.env.delete(name);
      else Deno.env.set(name, value);
    }
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("A rank that fails is named with its error", async () => {
  await ensureOpenMpi();
  assertMatch(
    await failure(2, TEST_ENVIRONMENT),
    /^rank [01] of 2: file:\S+\.ts is not among the modules that the node's key covers$/,
  );
});

Deno.test("A host with too few cores, and one without mpirun, are named", async () => {
  await ensureOpenMpi();
  const few = { ...TEST_ENVIRONMENT, OMPI_MCA_rmaps_base_oversubscribe: "0" };
  assertMatch(
    await failure(4096, few),
    /^mpirun ended with exit code 1: There are not enough slots available in the system/,
  );
  assertMatch(
    await failure(2, { ...TEST_ENVIRONMENT, PATH: "/nowhere" }),
    /^there is no mpirun to start ranks with: `apt-get install openmpi-bin/,
  );
});

Deno.test("A rank that ends by itself is named with its exit code", async () => {
  await ensureOpenMpi();
  const mpirun = new Deno.Command("mpirun", {
    args: ["-n", "2", "sh", "-c", 'if [ "$OMPI_COMM_WORLD_RANK" = 1 ]; then exit 5; fi; sleep 20'],
    env: TEST_ENVIRONMENT,
  });
  let explained = "";
  // On a busy host mpirun may end before it has named the process.
  for (let i = 0; i < 5 && !explained.startsWith("rank"); i++) {
    const { code, stderr } = await mpirun.output();
    const lines = new TextDecoder().decode(stderr).split("\n").map((line) => line.trim())
      .filter((line) => line !== "");
    explained = explainEnd(lines, { ranks: 2, code });
  }
  assertMatch(
    explained,
    /^rank 1 of 2 ended with exit code 5: all ranks ended; the training goes on/,
  );
});

Deno.test("A line is a message of a rank, or text", () => {
  const written = { kind: "write", step: 3, values: { loss: 0.1, perplexity: null } } as const;
  assertEquals(parseMessage(JSON.stringify(written)), written);
  for (const text of ["", "text", '{"kind":', '{"kind":"write","step":-1,"values":{}}', "{}"]) {
    assertEquals(parseMessage(text), undefined);
  }
  const evaluation = { step: 1, nats: null };
  const done = {
    kind: "done",
    result: {
      step: 1,
      tokens: 1,
      last: { ...evaluation, bits_per_byte: null },
      best: evaluation,
      skipped: 0,
      lastPath: "",
      bestPath: "",
    },
  };
  const message = parseMessage(JSON.stringify(done));
  assert(message?.kind === "done" && Number.isNaN(message.result.last.nats));
});
