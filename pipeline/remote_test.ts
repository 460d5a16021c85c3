/** Remote stores as users meet them: `reproduce --remote`, `push` and `pull` of a toy project, against S3. */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { BUCKET, FaultyProxy, S3_KEY, S3Server } from "./remote/testing.ts";
import { listFiles } from "./store/files.ts";
import { all, type Ended, endedAs, states, type Summary, ToyProject } from "./testing.ts";

const SECRET = "hunter2-is-no-key";

/** A toy whose environment names a server and a remote store in its bucket. */
async function toyOf(port: number, prefix: string, secret = S3_KEY): Promise<ToyProject> {
  const toy = await ToyProject.create();
  Object.assign(toy.env, {
    AWS_ENDPOINT_URL: `http://127.0.0.1:${port}`,
    AWS_ACCESS_KEY_ID: S3_KEY,
    AWS_SECRET_ACCESS_KEY: secret,
    AWS_REGION: "us-east-1",
    ETHOS_REMOTE: `s3://${BUCKET}/${prefix}`,
  });
  return toy;
}

interface Pulled {
  readonly pulled: readonly { node: string }[];
  readonly here: number;
  readonly missing: readonly string[];
}

/** All that is published, but for measured values. */
async function contents(toy: ToyProject): Promise<unknown> {
  const nodes = await toy.json("sql", "SELECT node, key, digest FROM nodes ORDER BY ALL");
  return { nodes, report: await Deno.readTextFile(toy.path("results", "report.md")) };
}

const warnings = ({ stderr }: Ended) =>
  stderr.split("\n").filter((line) => line.includes("warning"));

Deno.test("S3: what one machine computed another one fetches", async (t) => {
  await using server = await S3Server.start();
  await using proxy = await FaultyProxy.start(server.port);
  await using first = await toyOf(proxy.port, "team");
  const from = `s3://${BUCKET}/team`;
  assertEquals((await first.run("reproduce", "--remote", "none")).code, 0);
  assertEquals(proxy.requests, []);
  const expected = await contents(first);

  await t.step("push sends every node once", async () => {
    const { code, stdout, stderr } = await first.run("push");
    assertEquals(code, 0, stderr);
    assertStringIncludes(stdout, `Sent 5 of 5 nodes`);
    const again = await first.json<{ sent: unknown[]; there: number }>("push", "--run", "latest");
    assertEquals([again.sent.length, again.there], [0, 5]);
  });

  await t.step("reproduce runs nothing: every node is cached, from the remote store", async () => {
    await using second = await toyOf(proxy.port, "team");
    const ended = await second.run("reproduce");
    assertEquals(ended.code, 0, ended.stderr);
    assert(!ended.stderr.includes(": runs ("), ended.stderr);
    assertMatch(ended.stderr, new RegExp(`numbers: from ${from}, .* in `));
    assertStringIncludes(ended.stdout, `cached      numbers: from ${from}\n`);
    assertEquals(await contents(second), expected);
    const query = "SELECT DISTINCT provenance->'pulled'->>'from' AS place FROM nodes";
    assertEquals(await second.json("sql", query), [{ place: from }]);
    assertEquals((await second.json<{ clean: boolean }>("verify")).clean, true);
    const later = await second.json<Summary>("reproduce", "--remote", "none");
    assertEquals(states(later), all("cached"));
    assertEquals((await second.run("rebuild")).code, 0);
    assertEquals(await contents(second), expected);
  });

  await t.step("only what the remote store lacks is run, and --force asks nobody", async () => {
    await using second = await toyOf(proxy.port, "team");
    const one = await second.json<Summary>("reproduce", "--set", "steps=21");
    assertEquals(states(one), { ...all("done"), numbers: "cached" });
    proxy.requests.length = 0;
    const forced = ["reproduce", "--only", "numbers", "--force", "numbers"];
    assertEquals(states(await second.json<Summary>(...forced)), { numbers: "done" });
    assertEquals(proxy.requests, []);
  });

  await t.step("an edit of the code is another key", async () => {
    await using second = await toyOf(proxy.port, "team");
    await Deno.writeTextFile(second.path("train.ts"), "// A remark.\n", { append: true });
    const summary = await second.json<Summary>("reproduce");
    // Training comes out the same, so the report's key is the one that was pushed.
    assertEquals(states(summary), { ...all("done"), numbers: "cached", report: "cached" });
  });

  await t.step("a damaged node is named, and runs here; the others are fetched", async () => {
    await using second = await toyOf(proxy.port, "team");
    proxy.faults.push({ kind: "corrupt", path: /objects/ });
    const ended = await second.run("reproduce");
    assertEquals([ended.code, proxy.faults], [0, []]);
    const [line, ...others] = warnings(ended);
    assertEquals(others, []);
    assertMatch(line!, /^numbers: warning: .* other bytes than its name says; the node runs here$/);
    assertStringIncludes(ended.stderr, "numbers: done in");
    assertEquals(await contents(second), expected);
  });

  await t.step("a damaged object of the store is healed from the remote store", async () => {
    await using second = await toyOf(proxy.port, "team");
    assertEquals((await second.run("reproduce")).code, 0);
    const [{ sha256 }] = await second.json<[{ sha256: string }]>(
      "sql",
      "SELECT sha256 FROM artifacts JOIN nodes USING (key) WHERE node = 'numbers' AND kind = 'file'",
    );
    const path = second.path(".ethos", "objects", sha256.slice(0, 2), sha256);
    await Deno.chmod(path, 0o644);
    await Deno.writeTextFile(path, "1");
    const summary = await second.json<Summary>("reproduce");
    assertEquals(states(summary), all("cached"));
    assertEquals(summary.nodes[0]!.reason, `from ${from}`);
    assertEquals((await second.json<{ clean: boolean }>("verify")).clean, true);
  });

  await t.step("a page of measured values is fetched only beside those values", async () => {
    const toys = [await toyOf(proxy.port, "page"), await toyOf(proxy.port, "page")];
    await using one = toys[0]!;
    await using two = toys[1]!;
    await using three = await toyOf(proxy.port, "page");
    for (const toy of [one, two, three]) {
      const source = await Deno.readTextFile(toy.path("report.ts"));
      const reads = source.replace("outputs:", "readsMeasured: true,\n  outputs:");
      await Deno.writeTextFile(toy.path("report.ts"), reads);
    }
    assertEquals((await one.run("reproduce")).code, 0);
    assertEquals((await one.run("push")).code, 0);
    assertEquals(states(await two.json<Summary>("reproduce")), all("cached"));
    const train = ["reproduce", "--only", "train", "--remote", "none"];
    assertEquals((await three.run(...train)).code, 0);
    assertEquals(states(await three.json<Summary>("reproduce")), {
      ...all("cached"),
      report: "done",
    });
  });

  await t.step("pull fetches all of a configuration, a node, or a key", async () => {
    await using second = await toyOf(proxy.port, "team");
    const one = await second.json<Pulled>("pull", "train[rate=0.2]");
    assertEquals([one.pulled.map(({ node }) => node), one.here], [["train[rate=0.2]"], 0]);
    const rest = await second.json<Pulled>("pull");
    assertEquals([rest.pulled.length, rest.here, rest.missing], [4, 1, []]);
    assertEquals(
      states(await second.json<Summary>("reproduce", "--remote", "none")),
      all("cached"),
    );
    const [{ key }] = await second.json<[{ key: string }]>(
      "sql",
      "SELECT key FROM nodes WHERE node = 'numbers'",
    );
    await using third = await toyOf(proxy.port, "team");
    const { code, stdout } = await third.run("pull", key);
    assertEquals(code, 0);
    assertStringIncludes(stdout, `pulled numbers ${key.slice(0, 12)}…\nPulled 1 nodes`);
    const lacking = await third.run("pull", "report", "--seed", "9");
    assertEquals(lacking.code, 1);
    assertStringIncludes(lacking.stdout, "not there report");
    assertEquals((await third.run("pull", "reprot")).code, 2);
  });

  /** Kills a command once it waits for the answer to a request about an object. */
  const killed = async (child: Deno.ChildProcess, method: string) => {
    proxy.requests.length = 0;
    proxy.faults.push({ kind: "stall", method, path: /objects/, after: 0, times: 100 });
    let early: Ended | undefined;
    const ended = child.output().then((output) => early = endedAs(output));
    while (!proxy.requests.some((line) => line.startsWith(method) && line.includes("objects"))) {
      assertEquals(early, undefined, "the command ended without that request");
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    child.kill("SIGKILL");
    await ended;
    proxy.faults.length = 0;
  };

  await t.step("a run that is killed while it fetches goes on with whole nodes", async () => {
    await using second = await toyOf(proxy.port, "team");
    await killed(second.spawn("reproduce"), "GET");
    assertEquals((await second.json<{ nodes: number }>("verify")).nodes, 0);
    assertEquals(states(await second.json<Summary>("reproduce")), all("cached"));
    assertEquals(await contents(second), expected);
    assertEquals([...Deno.readDirSync(second.path(".ethos", "tmp"))], []);
  });

  await t.step("a push that is killed leaves nothing half-published", async () => {
    const prefix = "killed";
    const toy = first;
    const remote = ["--remote", `s3://${BUCKET}/${prefix}`];
    await killed(toy.spawn("push", ...remote), "PUT");
    await using second = await toyOf(proxy.port, prefix);
    assertEquals((await second.json<Pulled>("pull")).pulled, []);
    assertEquals((await toy.run("push", ...remote)).code, 0);
    assertEquals((await second.json<Pulled>("pull")).pulled.length, 5);
  });
});

Deno.test("S3: a remote store that can't be used stops no run, but push and pull", async (t) => {
  await using server = await S3Server.start();
  await using proxy = await FaultyProxy.start(server.port);
  await using toy = await toyOf(proxy.port, "team", SECRET);
  const body = "<Error><Code>AccessDenied</Code></Error>";

  /** Runs to the end with one warning; `push` and `pull` end with one error. */
  const goesOn = async (seed: string, inject: () => void, expected: string) => {
    inject();
    const ended = await toy.run("reproduce", "--seed", seed, "--debug");
    assertEquals(ended.code, 0, ended.stderr);
    assert(!`${ended.stdout}${ended.stderr}`.includes(SECRET));
    const lines = warnings(ended);
    assertEquals(lines.length, 1, ended.stderr);
    assertStringIncludes(lines[0]!, expected);
    assertStringIncludes(lines[0]!, "; the run goes on without the remote store");
    for (const command of [["push"], ["pull", "--seed", `${seed}9`]]) {
      inject();
      const { code, stderr } = await toy.run(...command);
      assertEquals(code, 1, stderr);
      assertEquals(stderr.trim().split("\n").length, 1, stderr);
      assertMatch(stderr, /^error: s3:\/\/models\/team: /);
      assertStringIncludes(stderr, expected);
    }
    proxy.faults.length = 0;
  };
  const always = { times: 1000 } as const;

  await t.step(
    "the secret key is wrong",
    () => goesOn("1", () => {}, "the secret key does not belong to the access key"),
  );
  toy.env["AWS_SECRET_ACCESS_KEY"] = S3_KEY;
  await t.step("permission is denied", () =>
    goesOn("2", () => {
      proxy.faults.push({ kind: "status", status: 403, body, ...always });
    }, "permission was denied for "));
  await t.step("the server fails", () =>
    goesOn("3", () => {
      const headers = { "retry-after": "0" };
      proxy.faults.push({ kind: "status", status: 500, headers, ...always });
    }, "answered with status 500; gave up after 4 attempts"));
  await t.step("the server does not answer", async () => {
    // Elsewhere a busy machine must not be taken for a silent server.
    toy.env["ETHOS_REMOTE_TIMEOUT"] = "1";
    await goesOn("4", () => {
      proxy.faults.length = 0;
      proxy.faults.push({ kind: "stall", after: 0, ...always });
    }, "made no progress for 1 s; gave up after 2 attempts");
    delete toy.env["ETHOS_REMOTE_TIMEOUT"];
  });
  await t.step("the bucket vanished", async () => {
    await server.removeBucket();
    await goesOn("5", () => {}, "there is no bucket models");
  });
  await t.step("the connection is refused", async () => {
    const closed = await FaultyProxy.start(server.port);
    await closed[Symbol.asyncDispose]();
    toy.env["AWS_ENDPOINT_URL"] = `http://127.0.0.1:${closed.port}`;
    await goesOn("6", () => {}, "the connection was refused; gave up after 4 attempts");
  });
  await t.step("there are no credentials", async () => {
    const nothing = toy.path("nothing");
    Object.assign(toy.env, {
      AWS_ACCESS_KEY_ID: "",
      AWS_SHARED_CREDENTIALS_FILE: nothing,
      AWS_CONFIG_FILE: nothing,
    });
    const ended = await toy.run("reproduce", "--seed", "7");
    assertEquals([ended.code, warnings(ended).length], [0, 1]);
    const { code, stderr } = await toy.run("push");
    assertEquals(code, 2);
    assertStringIncludes(stderr, "there are no credentials; set AWS_ACCESS_KEY_ID");
  });
  await t.step("no file of the store has a credential", async () => {
    for (const path of await listFiles(toy.path(".ethos"))) {
      const bytes = await Deno.readFile(join(toy.path(".ethos"), path));
      assert(!new TextDecoder("latin1").decode(bytes).includes(SECRET), path);
    }
  });
});

Deno.test("an address that is none ends every command before it starts", async () => {
  await using toy = await ToyProject.create();
  for (const command of ["reproduce", "push", "pull"]) {
    const bad = await toy.run(command, "--remote", `https://me:${SECRET}@host/store`);
    assertEquals(bad.code, 2);
    assertStringIncludes(bad.stderr, "error: --remote has a user, a password");
    assert(!bad.stderr.includes(SECRET));
  }
  toy.env["ETHOS_REMOTE"] = "somewhere";
  const { code, stderr } = await toy.run("reproduce");
  assertEquals(code, 2);
  assertStringIncludes(stderr, 'error: ETHOS_REMOTE is "somewhere"; expected s3://bucket/prefix');
  delete toy.env["ETHOS_REMOTE"];
  assertStringIncludes((await toy.run("push")).stderr, "error: There is no remote store");
  assertEquals([...Deno.readDirSync(toy.dir)].some(({ name }) => name === ".ethos"), false);
});

Deno.test("file: two toys share a folder", async () => {
  await using first = await ToyProject.create();
  await using second = await ToyProject.create();
  const shared = first.path("shared disk");
  const remote = ["--remote", new URL(`file://${shared}`).href];
  assertEquals((await first.run("reproduce")).code, 0);
  const { code, stdout, stderr } = await first.run("push", "train", ...remote);
  assertEquals(code, 0, stderr);
  assertStringIncludes(stdout, "Sent 3 of 3 nodes");
  // Training can't be looked up before the numbers are known.
  const summary = await second.json<Summary>("reproduce", ...remote);
  const { numbers, report, ...trained } = states(summary);
  assertEquals([numbers, report], ["done", "done"]);
  assertEquals(new Set(Object.values(trained)), new Set(["cached"]));
});
