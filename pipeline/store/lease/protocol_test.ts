/** The protocol on a simulated file server with delays, old listings, processes that stand still and ones that die. */

import fc from "fast-check";
import { assert, assertEquals } from "@std/assert";
import type { LeaseFolder } from "./folder.ts";
import type { LeaseHolder } from "./holder.ts";
import { type Pace, takeLease } from "./protocol.ts";

const PACE: Pace = { beat: 50, stale: 600, poll: 20 };
/** How long a client may show an old listing, as network file systems do. */
const LISTING_AGE = 300;

/** Virtual time: a promise of a later moment is kept in order of moments. */
class Time {
  now = 0;
  readonly #due: { at: number; order: number; go: () => void }[] = [];
  #order = 0;

  wait(milliseconds: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#due.push({ at: this.now + milliseconds, order: this.#order++, go: resolve });
    return promise;
  }

  async run(until: number): Promise<void> {
    for (;;) {
      // Whoever was woken goes on to its next wait.
      for (let i = 0; i < 40; i++) await null;
      if (this.#due.length === 0) return;
      this.#due.sort((a, b) => b.at - a.at || b.order - a.order);
      const next = this.#due.pop()!;
      if (next.at > until) return;
      this.now = next.at;
      next.go();
    }
  }
}

/** The server's files. `link` and `rename` happen at one moment. */
class Server {
  readonly files = new Map<string, { text: string; mark: number }>();
  readonly temporary = new Set<string>();
  beats = 0;
}

/** Integers from 0 below `n`, from a seed. */
function randomOf(seed: number): (n: number) => number {
  let state = seed >>> 0;
  return (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor(state / 2 ** 32 * n);
  };
}

/** A process: what it asks of the server takes time, and now and then it stands still. */
class Client implements LeaseFolder {
  readonly #server: Server;
  readonly #time: Time;
  readonly #random: (n: number) => number;
  #listing: { at: number; names: string[] } | undefined;
  #pausedUntil = 0;
  dead = false;

  constructor(server: Server, time: Time, random: (n: number) => number) {
    this.#server = server;
    this.#time = time;
    this.#random = random;
  }

  /** Time passes before a request is served and before its answer is read. */
  async ask<T>(serve: () => T): Promise<T> {
    await this.live();
    await this.#time.wait(1 + this.#random(15));
    const answer = serve();
    if (this.#random(60) === 0) this.#pausedUntil = this.#time.now + this.#random(3 * PACE.stale);
    if (this.#random(400) === 0) this.dead = true;
    await this.#time.wait(this.#random(5));
    await this.live();
    return answer;
  }

  /** Waits while the process stands still, for ever when it is dead. */
  async live(): Promise<void> {
    if (this.dead) await new Promise(() => {});
    while (this.#time.now < this.#pausedUntil) {
      await this.#time.wait(this.#pausedUntil - this.#time.now);
    }
  }

  async list(): Promise<string[]> {
    return await this.ask(() => {
      const { now } = this.#time;
      if (this.#listing === undefined || now - this.#listing.at > LISTING_AGE) {
        this.#listing = { at: now, names: [...this.#server.files.keys()] };
      }
      return this.#listing.names;
    });
  }

  async read(name: string): Promise<string | undefined> {
    return await this.ask(() => this.#server.files.get(name)?.text);
  }

  async create(holder: LeaseHolder): Promise<void> {
    await this.ask(() => {
      this.#listing = undefined;
      this.#server.files.set(holder.token, { text: JSON.stringify(holder), mark: 0 });
    });
  }

  async link(name: string, second: string): Promise<boolean> {
    return await this.ask(() => {
      const file = this.#server.files.get(name);
      if (file === undefined || this.#server.files.has(second)) return false;
      this.#listing = undefined;
      this.#server.files.set(second, file);
      return true;
    });
  }

  async mark(name: string): Promise<string | undefined> {
    return await this.ask(() => {
      const file = this.#server.files.get(name);
      return file && String(file.mark);
    });
  }

  async beat(name: string): Promise<void> {
    await this.ask(() => {
      const file = this.#server.files.get(name);
      if (file !== undefined) file.mark = ++this.#server.beats;
    });
  }

  async remove(name: string): Promise<void> {
    await this.ask(() => void this.#server.files.delete(name));
  }
}

interface Outcome {
  /** Tickets of publications, in order of time. */
  readonly published: readonly number[];
  /** Publications that came after a later owner was told that it may go on. */
  readonly late: number;
  /** Publications that the server refused, as a later owner had fenced them. */
  readonly refused: number;
  readonly takeovers: number;
  /** Whether any process lived to the end. */
  readonly survived: boolean;
}

/** Lets processes take a lease, publish under it and release it, until the time is over. */
async function simulate(seed: number, processes: number): Promise<Outcome> {
  const time = new Time();
  const server = new Server();
  const random = randomOf(seed);
  const published: number[] = [];
  let late = 0;
  let refused = 0;
  let takeovers = 0;
  let latest = 0;
  const clients: Client[] = [];
  const process = async (number: number) => {
    const client = new Client(server, time, random);
    clients.push(client);
    // Clocks differ in what they show and how fast they go.
    const offset = random(1e6);
    const rate = 0.9 + 0.2 * random(100) / 100;
    for (let life = 0; life < 6; life++) {
      const token = `${number}-${life}`;
      const us = { token, pid: number, host: `h${number}`, command: "run", since: "" };
      const { ticket, silent } = await takeLease(client, us, {
        pace: PACE,
        wait: true,
        prepare: ({ token }) => client.ask(() => void server.temporary.add(token)),
        fence: ({ token }) => client.ask(() => void server.temporary.delete(token)),
        evidence: () => Promise.resolve("unknown"),
        now: () => offset + rate * time.now,
        sleep: async (milliseconds) => {
          await time.wait(milliseconds);
          await client.live();
        },
      });
      latest = Math.max(latest, ticket);
      if (silent !== undefined) takeovers++;
      let open = true;
      const beat = async () => {
        while (open) {
          await time.wait(PACE.beat);
          if (open) await client.beat(token);
        }
      };
      void beat();
      for (let i = 0; i < 5; i++) {
        await time.wait(random(60));
        await client.ask(() => {
          // A rename: served at one moment, whoever still waits for its answer.
          if (!server.temporary.has(token)) return refused++;
          if (ticket < latest) late++;
          published.push(ticket);
        });
      }
      open = false;
      await client.remove(token);
    }
  };
  for (let i = 0; i < processes; i++) void process(i + 1);
  await time.run(60_000);
  const survived = clients.some(({ dead }) => !dead);
  return { published, late, refused, takeovers, survived };
}

Deno.test("no owner publishes after a later one went on, however processes stop, die and see old listings", async () => {
  let refused = 0;
  let takeovers = 0;
  await fc.assert(
    fc.asyncProperty(fc.integer(), fc.integer({ min: 2, max: 6 }), async (seed, processes) => {
      const outcome = await simulate(seed, processes);
      assertEquals(outcome.late, 0);
      assertEquals(outcome.published, outcome.published.toSorted((a, b) => a - b));
      assert(!outcome.survived || outcome.published.length > 0, "nobody ever published");
      refused += outcome.refused;
      takeovers += outcome.takeovers;
    }),
    { numRuns: 400 },
  );
  // Otherwise the simulation is too kind to show anything.
  assert(takeovers > 20 && refused > 5, `${takeovers} takeovers, ${refused} refused`);
});
