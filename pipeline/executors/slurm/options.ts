/**
 * The file of `--slurm`: which resources a job asks for. It describes a site, not an experiment, so no key includes it.
 *
 * @module
 */

import { z } from "zod";
import { loadConfiguration } from "../../config/config.ts";
import type { Resource } from "../../stage.ts";
import { nearest } from "../../terminal/closest.ts";

/** Resources of the jobs of one stage. */
export interface SlurmResources {
  /** Partitions, with commas between them. */
  readonly partition?: string;
  /** Whom the time is charged to. */
  readonly account?: string;
  /** Quality of service. */
  readonly qos?: string;
  /** Time limit of a job: `hours:minutes:seconds`, with `days-` before it if need be. */
  readonly time?: string;
  /** Memory of a job: `32G`. */
  readonly memory?: string;
  /** Cores of a job. */
  readonly cpus?: number;
  /** GPUs of a job. Unless given, a node that computes on a GPU gets one and any other none. */
  readonly gpus?: number;
  /** Type of the GPUs, as the cluster names it. */
  readonly gpu_type?: string;
  /** Further options of `sbatch` without `--`; `true` for one without a value, `false` leaves one out. */
  readonly directives?: Readonly<Record<string, string | number | boolean>>;
  /** Lines of shell before the program: `module load cuda`. */
  readonly setup?: readonly string[];
}

/** All that the file says. */
export interface SlurmOptions extends SlurmResources {
  /** How many jobs of one stage run at a time. */
  readonly max_jobs: number;
  /** How often a node is tried again after a failure. */
  readonly retries: number;
  /** Seconds before the time limit at which a job makes a checkpoint and stops. */
  readonly checkpoint_seconds: number;
  /** Seconds between two questions to Slurm, at most. */
  readonly poll_seconds: number;
  /** Resources of single stages, laid over the others. */
  readonly stages: Readonly<Record<string, SlurmResources>>;
}

/** Options of `sbatch` that the executor gives itself. */
const OWN = [
  "array",
  "chdir",
  "dependency",
  "error",
  "help",
  "hold",
  "input",
  "job-name",
  "no-requeue",
  "open-mode",
  "output",
  "parsable",
  "quiet",
  "requeue",
  "signal",
  "test-only",
  "usage",
  "version",
  "wait",
  "wrap",
];
/** Options of `sbatch` that are keys of their own here. */
const KEYS: Readonly<Record<string, string>> = {
  account: "account",
  "cpus-per-task": "cpus",
  gpus: "gpus",
  gres: "gpus",
  mem: "memory",
  partition: "partition",
  qos: "qos",
  time: "time",
};

const name = (what: string) => z.string().regex(/^[A-Za-z0-9_][A-Za-z0-9_.,@+-]*$/, what);
// No quote, no backslash, no `#`, no `$`, no control character: nothing that ends a quoted word or a line.
const argument = z.string().regex(
  /^[A-Za-z0-9_.,:;=+/@%&|()[\]*~!<> -]+$/,
  "expected letters, digits, spaces and _.,:;=+/@%&|()[]*~!<>-",
);

const resources = {
  partition: name("expected a partition, such as gpu").optional(),
  account: name("expected an account, such as physics").optional(),
  qos: name("expected a quality of service, such as normal").optional(),
  time: z.string().regex(
    /^(\d{1,3}-)?\d{1,3}:[0-5]\d:[0-5]\d$/,
    "expected hours:minutes:seconds, such as 12:00:00 or 2-00:00:00",
  ).optional(),
  memory: z.string().regex(/^[1-9]\d{0,8}[KMGT]$/, "expected a size, such as 32G").optional(),
  cpus: z.int().min(1).max(4096).optional(),
  gpus: z.int().min(0).max(64).optional(),
  gpu_type: name("expected a type of GPU, such as h200").optional(),
  directives: z.record(z.string(), z.union([argument, z.int(), z.boolean()]))
    .superRefine((directives, context) => {
      for (const key of Object.keys(directives)) {
        const message = refuseDirective(key);
        if (message !== undefined) context.addIssue({ code: "custom", path: [key], message });
      }
    }).optional(),
  setup: z.array(
    z.string().regex(/^[^\p{Cc}]+$/u, "expected one line of shell without control characters"),
  ).optional(),
};

function refuseDirective(key: string): string | undefined {
  if (!/^[a-z][a-z0-9-]*$/.test(key)) {
    return "expected a long option of sbatch without --, such as constraint";
  }
  if (OWN.includes(key)) return "is the executor's own; expected another option of sbatch";
  const own = KEYS[key];
  return own === undefined ? undefined : `is a key of its own here; write \`${own}\``;
}

/** The schema of the file. */
export const slurmOptionsSchema: z.ZodType<SlurmOptions> = z.strictObject({
  ...resources,
  max_jobs: z.int().min(1).max(100_000).default(100),
  retries: z.int().min(0).max(100).default(1),
  checkpoint_seconds: z.int().min(1).max(65_535).default(60),
  poll_seconds: z.number().min(0.1).max(3600).default(30),
  stages: z.record(z.string(), z.strictObject(resources)).default({}),
  // The optional keys are undefined in the schema's type, never in what it returns.
}) as z.ZodType<SlurmOptions>;

/**
 * Reads the file; without a path, nothing but defaults. `stages` are those of the experiment: an override of another one
 * may be for another experiment, unless its name looks like a slip.
 *
 * @throws ConfigurationError that names file, line, key, value and expectation of each problem.
 */
export async function loadSlurmOptions(
  path: string | undefined,
  stages: readonly string[],
): Promise<SlurmOptions> {
  const known = new Set(stages);
  const schema = slurmOptionsSchema.superRefine((options, context) => {
    for (const stage of Object.keys(options.stages)) {
      const near = known.has(stage) ? undefined : nearest(stage, [...known]);
      if (near === undefined) continue;
      const message = `there is no such stage; did you mean ${near}?`;
      context.addIssue({ code: "custom", path: ["stages", stage], message });
    }
  });
  if (path === undefined) return schema.parse({});
  return (await loadConfiguration(path, { schema })).value;
}

/** Resources of a stage's jobs: its own over those of all; directives are merged key by key. */
export function resourcesOf(
  options: SlurmOptions,
  stage: { readonly name: string; readonly resource?: Resource },
): SlurmResources {
  const own = options.stages[stage.name] ?? {};
  const computes = stage.resource === "gpu";
  return {
    ...options,
    // GPUs for all are for the nodes that compute on them.
    gpus: computes ? options.gpus ?? 1 : 0,
    ...own,
    directives: { ...options.directives, ...own.directives },
  };
}
