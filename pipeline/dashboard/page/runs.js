// The state of runs, from their events.

/** Lines that are kept for reading. */
const LINES = 200;

/** One run. */
export class RunState {
  constructor(run) {
    this.run = run;
    this.clear();
  }

  clear() {
    this.state = "";
    this.nodes = new Map();
    this.bars = new Map();
    this.lines = [];
    this.problems = [];
  }

  /** Takes one event; says what a listener should hear. */
  apply(event) {
    switch (event.type) {
      case "graph":
        this.nodes = new Map(event.nodes.map((node) => [node.node, { ...node, state: "waiting" }]));
        return;
      case "node": {
        const node = this.nodes.get(event.node);
        if (node === undefined) return;
        const { at, type: _, run: __, ...news } = event;
        delete node.error;
        Object.assign(node, news);
        if (event.state === "running") node.since = at;
        else delete node.progress;
        return event.state === "running" ? undefined : `${event.node}: ${event.state}`;
      }
      case "bar":
        this.bars.set(event.id, event);
        this.#progress(event, 0);
        return;
      case "progress": {
        const bar = this.bars.get(event.id);
        if (bar !== undefined) this.#progress(bar, event.done, event.remark);
        return;
      }
      case "stop":
        this.bars.delete(event.id);
        return;
      case "line":
        this.lines.push({ at: event.at, text: event.text });
        if (this.lines.length > LINES) this.lines.splice(0, this.lines.length - LINES);
        return;
      case "finish":
        this.problems = event.problems;
        return `Run ${this.run}: ${event.state}`;
    }
  }

  #progress({ node, total, unit }, done, remark) {
    const of = this.nodes.get(node);
    if (of !== undefined) {
      of.progress = { done, total, unit, remark: remark ?? of.progress?.remark ?? "" };
    }
  }

  /** `3 done, 1 running`. */
  summary() {
    const counts = new Map();
    for (const { state } of this.nodes.values()) counts.set(state, (counts.get(state) ?? 0) + 1);
    return [...counts].map(([state, count]) => `${count} ${state}`).join(", ");
  }
}

/** Follows runs over one connection, which the browser opens anew when it breaks. */
export class Connection {
  #source;

  /** `hear` is called with the kind of news and its data. */
  constructor(runs, hear) {
    const query = new URLSearchParams(runs.map((run) => ["run", run]));
    const source = new EventSource(`/api/events?${query}`);
    this.#source = source;
    source.addEventListener("open", () => hear("open", {}));
    source.addEventListener("error", () => hear("lost", {}));
    source.addEventListener("message", ({ data }) => hear("event", JSON.parse(data)));
    for (const kind of ["reset", "metrics", "state"]) {
      source.addEventListener(kind, ({ data }) => hear(kind, JSON.parse(data)));
    }
    source.addEventListener("over", () => {
      source.close();
      hear("over", {});
    });
  }

  close() {
    this.#source.close();
  }
}
