/**
 * Reads what a manifest's catalogue rows are made of.
 *
 * @module
 */

import type { Publication } from "../catalogue/catalogue.ts";
import { byStepThenName, decodeMetrics } from "../series/metrics.ts";
import type { ObjectRef, ObjectStat, ObjectStore } from "../objects.ts";
import { type NodeRecord, objectsOf } from "./records.ts";
import type { MetricRow } from "../../stage.ts";

/** Metrics of a record, ordered by step then name. */
export async function readMetrics(objects: ObjectStore, record: NodeRecord): Promise<MetricRow[]> {
  const rows: MetricRow[] = [];
  for (const measured of [false, true]) {
    const ref = measured ? record.measured : record.metrics;
    if (ref === undefined) continue;
    const text = await Deno.readTextFile(objects.path(ref.sha256));
    for (const row of decodeMetrics(text, measured)) rows.push(row);
  }
  return rows.sort(byStepThenName);
}

/** Makes the catalogue's entry of a record that was read from its manifest; `hashed` gives objects that were hashed. */
export async function publicationOf(
  objects: ObjectStore,
  record: NodeRecord,
  hashed: (sha256: string) => ObjectStat | undefined,
): Promise<Publication> {
  const entered: (ObjectRef & ObjectStat)[] = [];
  for (const { sha256 } of objectsOf(record)) {
    const stat = hashed(sha256);
    if (stat !== undefined) entered.push({ sha256, ...stat });
  }
  let metrics: MetricRow[] = [];
  try {
    metrics = await readMetrics(objects, record);
  } catch {
    // Damaged or missing: `Store.damage` finds it before anybody uses the node.
  }
  return { record, metrics, objects: entered };
}
