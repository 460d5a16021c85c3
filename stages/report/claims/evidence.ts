/**
 * Reads the figures that decide claims: numbers of committed files under `results/`, fits to them, and counts.
 *
 * @module
 */

import { parse } from "@std/csv";
import { join } from "@std/path";
import { fitLog } from "../theory/fit.ts";
import type { Estimate, Evidence, FileValue, JsonPath, Rows } from "./claim.ts";
import { COUNT_MEANINGS } from "./count_keys.ts";
import type { Counts } from "./counts.ts";

/** A figure with the place of its data. */
export interface Figure extends Estimate {
  /** File and key, or how it was counted. */
  readonly data: string;
}

/** Looks figures up. Files are read once. */
export class EvidenceReader {
  readonly #results: string;
  readonly #counts: Counts;
  readonly #texts = new Map<string, Promise<string>>();

  /** Takes the folder `results/` and the counts. */
  constructor(options: { results: string; counts: Counts }) {
    this.#results = options.results;
    this.#counts = options.counts;
  }

  /**
   * The figure of one piece of evidence.
   *
   * @throws {Error} When a file lacks what the evidence names, with the file and the key.
   */
  async figure(evidence: Evidence): Promise<Figure> {
    if ("count" in evidence) {
      const { count } = evidence;
      return { value: this.#counts[count], data: `counted: ${COUNT_MEANINGS[count]}` };
    }
    if ("fit" in evidence) {
      const { fit: rows, take } = evidence;
      const points = (await this.#rows(rows)).map((row) => ({
        x: number(row, { column: rows.x, rows }),
        y: number(row, { column: rows.y, rows }),
      }));
      const fit = fitLog(points);
      if (fit === undefined) throw new Error(`${place(rows)} of ${rows.csv} has too few rows`);
      return {
        value: fit[take],
        data: `${rows.csv}: least squares of ${rows.y} on ln ${rows.x}, ${place(rows)}`,
      };
    }
    if ("ratio" in evidence) {
      const [above, below] = await Promise.all(evidence.ratio.map((value) => this.#value(value)));
      return {
        value: above!.value / below!.value,
        data: `${above!.data} / ${keyOnly(below!.data)}`,
      };
    }
    return await this.#value(evidence.value);
  }

  async #value(value: FileValue): Promise<Figure> {
    if ("json" in value) {
      const { json, at, scale = 1 } = value;
      const found = follow(JSON.parse(await this.#text(json)), { file: json, path: at });
      return { value: scale * found, data: `${json}: ${pathText(at)}` };
    }
    const { column, latest, scale = 1, interval } = value;
    let rows = await this.#rows(value);
    if (latest !== undefined) {
      const at = (row: Row) => number(row, { column: latest, rows: value });
      const last = rows.reduce((most, row) => Math.max(most, at(row)), -Infinity);
      rows = rows.filter((row) => at(row) === last);
    } else if (rows.length > 1) {
      throw new Error(`${place(value)} of ${value.csv} has ${rows.length} rows; expected one`);
    }
    const mean = (name: string) =>
      rows.reduce((sum, row) => sum + number(row, { column: name, rows: value }), 0) *
      scale / rows.length;
    return {
      value: mean(column),
      ...(interval && orderedEnds(mean(`${column}_low`), mean(`${column}_high`))),
      data: `${value.csv}: ${column}, ${place(value)}${latest ? `, last ${latest}` : ""}`,
    };
  }

  async #rows(rows: Rows): Promise<Row[]> {
    const all: Row[] = parse(await this.#text(rows.csv), { skipFirstRow: true });
    const found = all.filter((row) =>
      Object.entries(rows.where).every(([column, value]) => row[column] === value)
    );
    if (found.length === 0) throw new Error(`${rows.csv} has no row with ${place(rows)}`);
    return found;
  }

  #text(file: string): Promise<string> {
    const known = this.#texts.get(file);
    if (known !== undefined) return known;
    const text = Deno.readTextFile(join(this.#results, file));
    this.#texts.set(file, text);
    return text;
  }
}

/** A negative factor changes the ends of an interval around. */
function orderedEnds(low: number, high: number): { low: number; high: number } {
  return { low: Math.min(low, high), high: Math.max(low, high) };
}

/** A row of a CSV file by column. */
type Row = Readonly<Record<string, string | undefined>>;

function number(row: Row, { column, rows }: { column: string; rows: Rows }): number {
  const text = row[column];
  const value = text === undefined || text === "" ? NaN : Number(text);
  if (Number.isFinite(value)) return value;
  throw new Error(
    `${rows.csv} has ${JSON.stringify(text)} in column ${column} with ${
      place(rows)
    }; expected a number`,
  );
}

function place({ where }: Rows): string {
  return Object.entries(where).map(([column, value]) => `${column} ${value}`).join(", ");
}

function follow(from: unknown, { file, path }: { file: string; path: JsonPath }): number {
  let here = from;
  for (const step of path) {
    if (typeof step === "string") {
      here = typeof here === "object" && here !== null && Object.hasOwn(here, step)
        ? (here as Record<string, unknown>)[step]
        : undefined;
    } else {
      here = Array.isArray(here)
        ? here.find((element) =>
          Object.entries(step).every(([key, value]) => element?.[key] === value)
        )
        : undefined;
    }
  }
  if (typeof here === "number" && Number.isFinite(here)) return here;
  throw new Error(`${file} has no number at ${pathText(path)}`);
}

function pathText(path: JsonPath): string {
  return path.map((step) =>
    typeof step === "string" ? step : Object.values(step).map((value) => `[${value}]`).join("")
  ).join(" ").replaceAll(" [", "[");
}

/** The key alone where the file was named before. */
function keyOnly(data: string): string {
  return data.slice(data.indexOf(": ") + 2);
}
