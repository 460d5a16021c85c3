/**
 * The dashboard's server: pages and numbers of a store, over loopback and read-only. It takes no lock: manifests, a run's
 * events and a running node's metrics are files that are whole or only grow.
 *
 * @module
 */

import { join } from "@std/path";
import { ObjectStore } from "../store/objects.ts";
import { Records } from "../store/records/records.ts";
import { layOut } from "../graph/layout.ts";
import { ASSETS } from "./assets.ts";
import { axesOf, type Axis, type AxisMetrics, Curves, viewCurve } from "./curves.ts";
import { streamEvents } from "./event_stream.ts";
import { openFile } from "./files.ts";
import { eventsOfRecord, Liveness, readEvents } from "./run_log.ts";
import { loopbackHandler, type LoopbackServer, serveLoopback } from "./loopback.ts";
import type { DashboardPage } from "./pages.ts";
import { Samples } from "./samples.ts";
import { API_HEADERS, json, PAGE_HEADERS, RequestError } from "./response.ts";

/** A program's words on its metrics. */
export interface DashboardHints extends AxisMetrics {
  /** Metrics whose curves come first, in this order. */
  readonly first?: readonly string[];
}

/** The store that is served, and how. */
export interface DashboardOptions {
  /** The store's folder. */
  readonly storeDir: string;
  /** The page's title. */
  readonly title: string;
  readonly hints?: DashboardHints;
  /** Pages beside the engine's own. */
  readonly pages?: readonly DashboardPage[];
  /** Ends streams. */
  readonly signal: AbortSignal;
  /** Between two looks at files, milliseconds; half a second unless given. */
  readonly poll?: number;
  /** Told of errors that are the server's own. */
  readonly warn?: (line: string) => void;
}

const RUN = /^\d{8}-\d{6}(-\d{1,3})?$/;
const KEY = /^[0-9a-f]{64}$/;
/** Runs of one stream. */
const RUNS_AT_ONCE = 8;
/** Streams at a time: each looks at files twice a second. */
const STREAMS = 128;
const COLUMNS = 4000;
const NAMES_AT_ONCE = 200;
/** Steps with samples in one answer. */
const STEPS_AT_ONCE = 50;
/** Beyond so many nodes a drawing says nothing, and takes seconds to lay out. */
const DRAWN_NODES = 300;

/**
 * Starts to serve on loopback.
 *
 * @throws UserError when the port is taken or refused.
 */
export function serveDashboard(
  options: DashboardOptions & { readonly port: number },
): LoopbackServer {
  return serveLoopback({ ...options, answer: answerOf(options) });
}

/** Makes what answers requests; `port` is the one that clients name in `Host`. */
export function createHandler(
  options: DashboardOptions & { readonly port: number },
): (request: Request) => Promise<Response> {
  return loopbackHandler({ ...options, answer: answerOf(options) });
}

function answerOf(options: DashboardOptions): (request: Request) => Promise<Response> {
  const site = new Site(options);
  return (request) => site.answer(request);
}

class Site {
  readonly #options: DashboardOptions;
  readonly #records: Records;
  readonly #objects: ObjectStore;
  readonly #curves: Curves;
  readonly #samples: Samples;
  readonly #liveness: Liveness;
  #streams = 0;

  constructor(options: DashboardOptions) {
    const { storeDir } = options;
    // Nothing is written, so there is no temporary folder.
    const temporary = join(storeDir, "tmp");
    this.#options = options;
    this.#records = new Records(storeDir, temporary);
    this.#objects = new ObjectStore(join(storeDir, "objects"), temporary);
    this.#curves = new Curves(storeDir, { records: this.#records, objects: this.#objects });
    this.#samples = new Samples(storeDir, { records: this.#records, objects: this.#objects });
    this.#liveness = new Liveness(join(storeDir, "lock"));
  }

  async answer(request: Request): Promise<Response> {
    const { pathname, searchParams } = new URL(request.url);
    const asset = ASSETS.get(pathname);
    if (asset !== undefined) {
      return new Response(asset.text, { headers: { ...PAGE_HEADERS, "content-type": asset.type } });
    }
    switch (pathname) {
      case "/api/runs":
        return json(await this.#runs());
      case "/api/layout":
        return json(await this.#layout(runOf(searchParams)));
      case "/api/node":
        return json(await this.#node(keyOf(searchParams)));
      case "/api/curves":
        return json(await this.#view(keyOf(searchParams), searchParams));
      case "/api/samples":
        return json(await this.#texts(keyOf(searchParams), searchParams));
      case "/api/events":
        return this.#events(request, searchParams);
    }
    if (pathname.startsWith("/files/")) {
      return await openFile(pathname, { records: this.#records, objects: this.#objects });
    }
    for (const page of this.#options.pages ?? []) {
      if (pathname === page.path || pathname.startsWith(`${page.path}/`)) {
        return await page.answer(new URL(request.url));
      }
    }
    throw new RequestError(404, "There is nothing here.");
  }

  async #runs(): Promise<unknown> {
    const runs = await this.#records.readRuns();
    const { title, hints, pages } = this.#options;
    return {
      title,
      hints: hints ?? {},
      pages: (pages ?? []).map(({ path, title }) => ({ path, title })),
      runs: await Promise.all(
        runs.reverse().map(async (run) => ({
          run: run.run,
          state: await this.#liveness.stateOf(run),
          command: run.command,
          config_path: run.config_path,
          started_at: run.started_at,
          finished_at: run.finished_at ?? null,
        })),
      ),
    };
  }

  async #layout(run: string): Promise<unknown> {
    const record = await this.#records.readRun(run);
    if (record === undefined) throw new RequestError(404, `There is no run ${run}.`);
    const { events } = await readEvents(this.#records.eventsPath(run), 0) ?? { events: [] };
    const found = events.length > 0 ? events : await eventsOfRecord(record, this.#records);
    const graph = found.map(({ event }) => event).find((event) => event.type === "graph");
    const nodes = graph?.nodes ?? [];
    if (nodes.length === 0 || nodes.length > DRAWN_NODES) return { nodes: [], edges: [] };
    return layOut(nodes.map(({ node: name, inputs }) => ({ name, inputs })));
  }

  async #node(key: string): Promise<unknown> {
    const record = await this.#records.readNode(key);
    const curves = await this.#curves.read(key);
    const samples = await this.#samples.read(key);
    const outputs = Object.entries(record?.outputs ?? {}).flatMap(([name, output]) =>
      output.kind === "directory"
        ? [{ name, files: output.files.map(({ path, size }) => ({ path, size })) }]
        : output.kind === "file"
        ? [{ name, files: [{ path: "", size: output.size }] }]
        : []
    );
    return {
      published: record !== undefined,
      seconds: record?.provenance.seconds ?? null,
      provenance: record?.provenance ?? {},
      outputs,
      axes: axesOf(curves, this.#options.hints ?? {}),
      samples: { steps: samples.length, step: samples[0]?.step ?? null },
      metrics: [...curves].map(([name, { steps, values }]) => ({
        name,
        points: steps.length,
        step: steps.at(-1) ?? null,
        value: values.at(-1) ?? null,
      })),
    };
  }

  async #texts(key: string, query: URLSearchParams): Promise<unknown> {
    const before = numberOf(query, "before") ?? Infinity;
    const limit = Math.round(numberOf(query, "limit", { least: 1, most: STEPS_AT_ONCE }) ?? 10);
    const steps = (await this.#samples.read(key)).filter(({ step }) => step < before);
    return { steps: steps.slice(0, limit), more: steps.length > limit };
  }

  async #view(key: string, query: URLSearchParams): Promise<unknown> {
    const names = query.getAll("name");
    if (names.length > NAMES_AT_ONCE) throw new RequestError(400, "Too many names.");
    const axis = query.get("axis") ?? "step";
    if (!["step", "tokens", "time"].includes(axis)) {
      throw new RequestError(400, "axis is none; expected step, tokens or time.");
    }
    const from = numberOf(query, "from");
    const to = numberOf(query, "to");
    const view = {
      axis: axis as Axis,
      log: query.get("log") === "1",
      smoothing: numberOf(query, "smoothing", { least: 0, most: 0.9999 }) ?? 0,
      columns: Math.round(numberOf(query, "columns", { least: 1, most: COLUMNS }) ?? 500),
      ...from !== undefined && { from },
      ...to !== undefined && { to },
    };
    const curves = await this.#curves.read(key);
    const { hints } = this.#options;
    return Object.fromEntries(names.map((name) => [name, viewCurve(curves, name, view, hints)]));
  }

  #events(request: Request, query: URLSearchParams): Response {
    const runs = query.getAll("run");
    if (runs.length < 1 || runs.length > RUNS_AT_ONCE || !runs.every((run) => RUN.test(run))) {
      throw new RequestError(400, `run is none; expected 1 to ${RUNS_AT_ONCE} names of runs.`);
    }
    if (this.#streams >= STREAMS) throw new RequestError(503, "Too many pages are open.");
    const { poll } = this.#options;
    const gone = new AbortController();
    const parts = streamEvents({
      records: this.#records,
      curves: this.#curves,
      liveness: this.#liveness,
    }, {
      runs,
      last: request.headers.get("last-event-id") ?? query.get("last") ?? "",
      signal: AbortSignal.any([this.#options.signal, gone.signal]),
      ...poll !== undefined && { poll },
    });
    this.#streams++;
    let open = true;
    const close = () => {
      if (open) this.#streams--;
      open = false;
    };
    const encoder = new TextEncoder();
    // Pulled, not pushed: what a slow page has not read is not read from the disk either.
    const body = new ReadableStream<Uint8Array>({
      async pull(controller) {
        try {
          const { done, value } = await parts.next();
          if (!done) return controller.enqueue(encoder.encode(value));
          close();
          controller.close();
        } catch (error) {
          close();
          controller.error(error);
        }
      },
      cancel() {
        close();
        gone.abort();
      },
    });
    return new Response(body, {
      headers: { ...API_HEADERS, "content-type": "text/event-stream; charset=utf-8" },
    });
  }
}

function runOf(query: URLSearchParams): string {
  const run = query.get("run") ?? "";
  if (!RUN.test(run)) throw new RequestError(400, "run is none; expected the name of a run.");
  return run;
}

function keyOf(query: URLSearchParams): string {
  const key = query.get("key") ?? "";
  if (!KEY.test(key)) throw new RequestError(400, "key is none; expected 64 hexadecimal digits.");
  return key;
}

function numberOf(
  query: URLSearchParams,
  name: string,
  { least = -Infinity, most = Infinity }: { least?: number; most?: number } = {},
): number | undefined {
  const text = query.get(name);
  if (text === null) return undefined;
  const number = Number(text);
  if (text !== "" && Number.isFinite(number) && number >= least && number <= most) return number;
  throw new RequestError(400, `${name} is no number from ${least} to ${most}.`);
}
