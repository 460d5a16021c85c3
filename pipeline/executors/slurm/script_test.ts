import { assertEquals, assertStringIncludes } from "@std/assert";
import fc from "fast-check";
import { ConfigurationError } from "../../config/config.ts";
import { loadSlurmOptions, resourcesOf } from "./options.ts";
import { arrayScript, quoteShell } from "./script.ts";

const STAGES = ["tokenize", "train"];

async function load(text: string) {
  const path = await Deno.makeTempFile({ suffix: ".yaml" });
  try {
    await Deno.writeTextFile(path, text);
    return await loadSlurmOptions(path, STAGES);
  } finally {
    await Deno.remove(path);
  }
}

/** The one complaint about a file. */
async function refused(text: string): Promise<string> {
  try {
    await load(text);
  } catch (error) {
    if (!(error instanceof ConfigurationError)) throw error;
    return error.problems.map(({ path, message }) => `${path}: ${message}`).join("\n");
  }
  return "accepted";
}

Deno.test("A script asks for a stage's resources", async () => {
  const options = await load(`
partition: gpu
time: 12:00:00
memory: 32G
cpus: 4
gpu_type: h200
directives: { constraint: a100|h100, exclusive: true, nice: 10, hint: "two words" }
setup: [module load cuda]
max_jobs: 2
stages:
  tokenize: { partition: cpu, directives: { exclusive: false } }
`);
  const train = resourcesOf(options, { name: "train", resource: "gpu" });
  const script = (resources: typeof train) =>
    arrayScript({
      name: "train-1",
      tasks: 4,
      throttle: options.max_jobs,
      resources,
      checkpoint_seconds: options.checkpoint_seconds,
      cwd: "/home/a b",
      command: ["/bin/deno", "it's"],
    });
  assertEquals(
    script(train),
    `#!/bin/bash
#SBATCH --job-name=train-1
#SBATCH --array=0-3%2
#SBATCH --partition=gpu
#SBATCH --time=12:00:00
#SBATCH --mem=32G
#SBATCH --cpus-per-task=4
#SBATCH --gres=gpu:h200:1
#SBATCH --constraint="a100|h100"
#SBATCH --exclusive
#SBATCH --nice=10
#SBATCH --hint="two words"
#SBATCH --signal=B:USR2@60
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%a.log
set -e
mapfile -t keys < keys
module load cuda
cd '/home/a b'
exec /bin/deno 'it'\\''s' "$SLURM_ARRAY_TASK_ID" "\${keys[SLURM_ARRAY_TASK_ID]}"
`,
  );
  const tokenize = script(resourcesOf(options, { name: "tokenize" }));
  assertStringIncludes(tokenize, "--partition=cpu\n");
  assertEquals(/gres|exclusive/.test(tokenize), false);
});

Deno.test("The file of Slurm's options names the key that is wrong", async () => {
  const cases: [yaml: string, complaint: string][] = [
    ["partitoin: gpu", "partitoin: unknown key; did you mean partition?"],
    ["time: 90", "time: expected text that matches"],
    [
      "time: 1h",
      'time: expected hours:minutes:seconds, such as 12:00:00 or 2-00:00:00, got "1h"',
    ],
    ["memory: 32", "memory: expected text"],
    ["memory: 32 GB", 'memory: expected a size, such as 32G, got "32 GB"'],
    ["gpus: -1", "gpus: expected a whole number from 0 to 64, got -1"],
    ["max_jobs: 0", "max_jobs: expected a whole number from 1 to 100000, got 0"],
    [
      "stages: { trian: {} }",
      "stages.trian: there is no such stage; did you mean train?",
    ],
    ["stages: { train: { max_jobs: 1 } }", "stages.train.max_jobs: unknown key"],
    ["stages: { train: { cpus: 0 } }", "stages.train.cpus: expected a whole number"],
    ["directives: { output: x }", "directives.output: is the executor's own"],
    ["directives: { mem: 1G }", "directives.mem: is a key of its own here; write `memory`"],
    ["directives: { --nice: 1 }", "directives.--nice: expected a long option of sbatch"],
    ['directives: { "nice=1 --uid": 0 }', "directives.nice=1 --uid: expected a long option"],
  ];
  for (const [yaml, complaint] of cases) assertStringIncludes(await refused(yaml), complaint);
});

Deno.test("The example is a file of Slurm's options", async () => {
  const path = new URL("../../../configs/slurm/cluster.yaml", import.meta.url).pathname;
  const options = await loadSlurmOptions(path, [
    "download",
    "tokenize",
    "train",
    "ablate",
    "report",
  ]);
  const { partition, gpus, time, setup } = resourcesOf(options, { name: "train", resource: "gpu" });
  assertEquals([partition, gpus, time, setup?.length], ["gpu", 1, "12:00:00", 1]);
  const report = resourcesOf(options, { name: "report" });
  assertEquals([report.partition, report.gpus], ["cpu", 0]);
});

Deno.test("No value ends its directive", async () => {
  const hostile = [
    "a\\nrm -rf x",
    'a" b',
    "a' b",
    "$(id)",
    "`id`",
    "a\\\\",
    "a # b",
    "a\\u0000",
    "",
  ];
  for (const value of hostile) {
    for (const key of ["partition", "account", "qos", "gpu_type", "time", "memory"]) {
      assertStringIncludes(
        await refused(`${key}: "${value.replace('"', '\\"')}"`),
        `${key}: expected`,
      );
    }
    const message = await refused(`directives: { comment: "${value.replace('"', '\\"')}" }`);
    assertStringIncludes(message, "directives.comment: ");
  }
  assertStringIncludes(await refused('setup: ["a\\nb"]'), "setup.0: expected one line of shell");
});

Deno.test("A quoted word reaches the program as it was", async () => {
  const words = fc.sample(
    fc.string({ unit: "binary", minLength: 1 }).filter((word) =>
      !word.includes("\0") && word.isWellFormed()
    ),
    { numRuns: 200, seed: 1 },
  );
  const script = `printf '%s\\0' ${words.map(quoteShell).join(" ")}`;
  const { stdout } = await new Deno.Command("bash", { args: ["-c", script] }).output();
  assertEquals(new TextDecoder().decode(stdout).split("\0").slice(0, -1), words);
});
