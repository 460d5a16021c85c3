/**
 * The shape of manifests. A disk may change any byte, and digests cover a manifest's outputs alone.
 *
 * Keys beyond these pass, so that a store of a later program can still be read.
 *
 * @module
 */

import { z } from "zod";

const digest = z.string().regex(/^[0-9a-f]{64}$/);
const text = z.string();
const time = z.string().refine((iso) => Number.isFinite(Date.parse(iso)), "expected a time");
const object = z.looseObject({ sha256: digest, size: z.int().min(0) });
/** A path stays in its folder, wherever results are copied to: a manifest may come from elsewhere. */
const path = text.refine(
  (path) =>
    !/[\0\\]|^[a-zA-Z]:/.test(path) && !path.split("/").some((part) => /^\.{0,2}$/.test(part)),
  "expected a path that stays in its folder",
);
const metrics = object.extend({ rows: z.int().min(0) });

const code = z.looseObject({
  digest: text,
  files: z.record(text, text),
  packages: z.record(text, text),
});

const components = z.looseObject({
  stage: text,
  params: z.json(),
  inputs: z.record(text, z.array(z.looseObject({ node: text, digest: text }))),
  code,
});

/** A published node's manifest: `NodeRecord`. */
export const nodeRecordSchema = z.looseObject({
  format: z.literal(1),
  key: digest,
  node: text,
  stage: text,
  resource: text,
  labels: z.record(text, z.json()),
  components,
  outputs: z.record(
    text,
    z.discriminatedUnion("kind", [
      z.looseObject({ kind: z.literal("json"), value: z.json() }),
      z.looseObject({ kind: z.literal("measured"), value: z.json(), sha256: digest }),
      object.extend({ kind: z.literal("file") }),
      z.looseObject({
        kind: z.literal("directory"),
        files: z.array(object.extend({ path })),
      }),
    ]),
  ),
  metrics: metrics.optional(),
  measured: metrics.optional(),
  digest,
  readings: z.record(text, text).optional(),
  provenance: z.looseObject({
    run: text,
    started_at: time,
    finished_at: time,
    seconds: z.number(),
    pulled: z.looseObject({ from: text, at: time, run: text.optional() }).optional(),
  }),
});

/** The same for a manifest whose code is known to be sound. */
export const soundCodeSchema = nodeRecordSchema.extend({
  components: components.extend({ code: z.unknown() }),
});

/** A run's manifest: `RunRecord`. */
export const runRecordSchema = z.looseObject({
  format: z.literal(1),
  run: text.min(1),
  state: z.enum(["running", "done", "failed", "interrupted", "killed", "submitted"]),
  command: text,
  config_path: text,
  configuration: z.json(),
  started_at: time,
  finished_at: time.optional(),
  host: z.record(text, z.json()),
  nodes: z.array(z.looseObject({
    node: text,
    stage: text,
    key: text.optional(),
    state: z.enum(["cached", "done", "failed", "blocked", "interrupted", "submitted", "waiting"]),
    reason: text.optional(),
    seconds: z.number().optional(),
    error: text.optional(),
  })),
});
