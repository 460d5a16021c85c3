/**
 * A real Slurm of one node on the loopback device, in a temporary folder, without systemd and without accounting.
 *
 * @module
 */

import { join } from "@std/path";

/** Programs of Slurm and of its authentication. */
const PROGRAMS = ["munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel"];
/** Debian's packages that have them. */
const PACKAGES = ["slurmctld", "slurmd", "slurm-client", "munge"];
/** Milliseconds that a daemon gets to answer, or to end. */
const PATIENCE = 30_000;
/** Name of the only node. */
const HOST = Deno.hostname().split(".")[0]!;

/** Daemons of the cluster that tests kill. */
export type SlurmDaemon = "slurmctld" | "slurmd";

/** The output of a command, and how it ended. */
export interface Said {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A cluster of one node with two cores and two generic resources `gpu`, which are harmless device files. */
export class SlurmCluster implements AsyncDisposable {
  /** The folder of configuration, state and logs. */
  readonly dir: string;
  /** Variables that point Slurm's commands at this cluster. */
  readonly env: Readonly<Record<string, string>>;
  readonly #daemons = new Map<string, Daemon>();

  private constructor(dir: string) {
    this.dir = dir;
    this.env = { SLURM_CONF: join(dir, "slurm.conf") };
  }

  /**
   * Starts the daemons and waits until the node is idle. Installs Debian's packages where they are absent and this
   * process may.
   *
   * @throws Error when Slurm is neither installed nor to be had, or does not start.
   */
  static async start(): Promise<SlurmCluster> {
    await install();
    const dir = await Deno.realPath(await Deno.makeTempDir({ prefix: "slurm_" }));
    const cluster = new SlurmCluster(dir);
    try {
      for (const name of ["spool", "state", "munge", "log"]) await Deno.mkdir(join(dir, name));
      // Commands of other users reach the socket through these folders.
      for (const path of [dir, join(dir, "munge")]) await Deno.chmod(path, 0o755);
      const key = crypto.getRandomValues(new Uint8Array(64));
      await Deno.writeFile(join(dir, "munge", "key"), key, { mode: 0o600 });
      await Deno.writeTextFile(join(dir, "slurm.conf"), await configuration(dir));
      const gres = "Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n";
      await Deno.writeTextFile(join(dir, "gres.conf"), gres);
      const munge = (file: string) => join(dir, "munge", file);
      await cluster.#launch("munged", [
        "--foreground",
        "--force",
        `--socket=${munge("socket")}`,
        `--key-file=${munge("key")}`,
        `--pid-file=${munge("pid")}`,
        `--log-file=${munge("log")}`,
        `--seed-file=${munge("seed")}`,
      ]);
      await cluster.#until("munged", () => exists(munge("socket")));
      await cluster.launch("slurmctld");
      await cluster.launch("slurmd");
      await cluster.#until("the node", async () => {
        const { stdout } = await cluster.say("sinfo", "--noheader", "--format=%T");
        return stdout.trim() === "idle";
      });
      return cluster;
    } catch (error) {
      await cluster[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Runs one of Slurm's commands. */
  async say(program: string, ...args: string[]): Promise<Said> {
    const output = await new Deno.Command(program, { args, env: this.env, stdin: "null" }).output();
    const decoder = new TextDecoder();
    return {
      code: output.code,
      stdout: decoder.decode(output.stdout),
      stderr: decoder.decode(output.stderr),
    };
  }

  /** Jobs that Slurm knows, an array's task each: `id_index STATE`. */
  async jobs(): Promise<string[]> {
    const { stdout } = await this.say(
      "squeue",
      "--array",
      "--states=all",
      "--noheader",
      "--format=%i %T",
    );
    return stdout.trim().split("\n").filter((line) => line !== "").sort();
  }

  /** Waits until no job is left in the queue, but for those that are held. */
  async idle(): Promise<void> {
    const busy = /PEND|RUN|COMPLETING|CONFIGURING/;
    await this.#until("an empty queue", async () => {
      const { stdout } = await this.say("squeue", "--noheader", "--format=%T %r");
      return !stdout.split("\n").some((line) => busy.test(line) && !line.includes("JobHeldUser"));
    });
  }

  /** Starts a daemon that was killed. */
  async launch(name: SlurmDaemon): Promise<void> {
    await this.#launch(name, ["-D", "-f", join(this.dir, "slurm.conf")]);
  }

  /** Kills a daemon; jobs and their parents live on. A slurmctld that is not asked to end forgets its last seconds. */
  async kill(name: SlurmDaemon, how: "SIGTERM" | "SIGKILL" = "SIGKILL"): Promise<void> {
    await this.#daemons.get(name)?.stop(how);
    this.#daemons.delete(name);
  }

  /** Kills slurmd and all that runs below it, as a power cut would, and tells slurmctld, which would take minutes. */
  async failNode(): Promise<void> {
    await this.kill("slurmd");
    for (const pid of await this.#processes({ jobs: true })) {
      signal(pid, "SIGKILL");
    }
    await this.say("scontrol", "update", `NodeName=${HOST}`, "State=DOWN", "Reason=test");
  }

  /** Starts slurmd on a node that failed. */
  async repairNode(): Promise<void> {
    await this.launch("slurmd");
    await this.say("scontrol", "update", `NodeName=${HOST}`, "State=RESUME");
  }

  /** Ends jobs and daemons, and removes the folder. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#daemons.has("slurmctld") && this.#daemons.has("slurmd")) {
      await this.say("scancel", "--signal=KILL", "--full", "--me");
      await this.say("scancel", "--me");
    }
    for (const name of ["slurmd", "slurmctld", "munged"]) {
      await this.#daemons.get(name)?.stop("SIGTERM");
    }
    for (const pid of await this.#processes()) signal(pid, "SIGKILL");
    await Deno.remove(this.dir, { recursive: true });
  }

  async #launch(name: string, args: string[]): Promise<void> {
    this.#daemons.set(name, await Daemon.start(name, args, { dir: this.dir, env: this.env }));
  }

  async #until(what: string, ready: () => Promise<boolean>): Promise<void> {
    const end = performance.now() + PATIENCE;
    while (!await ready()) {
      if (performance.now() > end) {
        throw new Error(`${what} was not ready after ${PATIENCE / 1000} s.\n${await this.#logs()}`);
      }
      await wait(50);
    }
  }

  /** The daemons' last words. */
  async #logs(): Promise<string> {
    const parts: string[] = [];
    for await (const { name } of Deno.readDir(join(this.dir, "log"))) {
      const text = await Deno.readTextFile(join(this.dir, "log", name));
      parts.push(`${name}:\n${text.split("\n").slice(-10).join("\n")}`);
    }
    return parts.join("\n");
  }

  /** Processes whose environment names this cluster; of those below slurmd, only `jobs`. */
  async #processes({ jobs = false } = {}): Promise<number[]> {
    // Deno reads no other process's environment. Tasks have the mark in it, their parents have a name.
    const script = `grep -lsFxz -- "$1" /proc/[0-9]*/environ | while read -r path; do
      [ "$2" = all ] || grep -qsz "^SLURMD_NODENAME=" "$path" ||
        grep -qsx slurmstepd "\${path%environ}comm" || continue
      path=\${path#/proc/}; echo "\${path%/environ}"; done`;
    const mark = `SLURM_CONF=${this.env["SLURM_CONF"]}`;
    const { stdout } = await new Deno.Command("bash", {
      args: ["-c", script, "processes", mark, jobs ? "jobs" : "all"],
    }).output();
    return new TextDecoder().decode(stdout).split("\n").filter((line) => line !== "").map(Number);
  }
}

/** A daemon below a shell that ends it when this process is gone. */
class Daemon {
  readonly pid: number;
  readonly #shell: Deno.ChildProcess;

  private constructor(pid: number, shell: Deno.ChildProcess) {
    this.pid = pid;
    this.#shell = shell;
  }

  static async start(
    name: string,
    args: string[],
    { dir, env }: { dir: string; env: Readonly<Record<string, string>> },
  ): Promise<Daemon> {
    const path = await find(name);
    const log = join(dir, "log", `${name}.out`);
    // The pipe to the shell breaks when this process dies, however it dies.
    const script =
      'log=$1; shift; "$@" >>"$log" 2>&1 & echo $!; read -r _; kill -KILL $! 2>&-; wait';
    const shell = new Deno.Command("bash", {
      args: ["-c", script, "daemon", log, path!, ...args],
      env,
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    const reader = shell.stdout.getReader();
    const { value } = await reader.read();
    await reader.cancel();
    return new Daemon(Number(new TextDecoder().decode(value)), shell);
  }

  async stop(how: "SIGTERM" | "SIGKILL"): Promise<void> {
    signal(this.pid, how);
    const end = performance.now() + PATIENCE;
    while (await exists(`/proc/${this.pid}`) && performance.now() < end) await wait(20);
    await this.#shell.stdin.close();
    await this.#shell.status;
  }
}

/** `slurm.conf` with two free ports. */
async function configuration(dir: string): Promise<string> {
  const user = await output("id", "-un");
  const ports = [freePort(), freePort()];
  return `ClusterName=loopback
SlurmctldHost=${HOST}(127.0.0.1)
SlurmctldPort=${ports[0]}
SlurmdPort=${ports[1]}
AuthType=auth/munge
CredType=cred/munge
# A job that was requeued waits as long as its credential lives.
AuthInfo=socket=${dir}/munge/socket,cred_expire=5
SlurmUser=${user}
SlurmdUser=${user}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
ReturnToService=2
MpiDefault=none
StateSaveLocation=${dir}/state
SlurmdSpoolDir=${dir}/spool
SlurmctldPidFile=${dir}/slurmctld.pid
SlurmdPidFile=${dir}/slurmd.pid
SlurmctldLogFile=${dir}/log/slurmctld.log
SlurmdLogFile=${dir}/log/slurmd.log
SchedulerParameters=sched_interval=1,sched_min_interval=10000,batch_sched_delay=0,bf_interval=1
SlurmctldTimeout=3
SlurmdTimeout=6
KillWait=5
MessageTimeout=2
MinJobAge=60
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
NodeName=${HOST} NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000 Gres=gpu:2
PartitionName=main Nodes=${HOST} Default=YES MaxTime=INFINITE State=UP
`;
}

/** Installs Slurm where it is absent. */
async function install(): Promise<void> {
  const missing = async () => {
    const found = await Promise.all(PROGRAMS.map(find));
    return PROGRAMS.filter((_, i) => found[i] === undefined);
  };
  const before = await missing();
  if (before.length === 0) return;
  const command = `apt-get install -y --no-install-recommends ${PACKAGES.join(" ")}`;
  if (Deno.uid() !== 0 || await find("apt-get") === undefined) {
    throw new Error(`Slurm's ${before.join(", ")} not found; as root: ${command}`);
  }
  const env = { DEBIAN_FRONTEND: "noninteractive" };
  const run = (args: string[]) =>
    new Deno.Command("apt-get", { args, env, stdin: "null" }).output();
  // Another test may be installing something else.
  const patience = ["-o", "DPkg::Lock::Timeout=300"];
  await run([...patience, "update", "-qq"]);
  const { stderr } = await run([
    ...patience,
    "install",
    "-y",
    "--no-install-recommends",
    ...PACKAGES,
  ]);
  const after = await missing();
  if (after.length === 0) return;
  throw new Error(
    `Slurm's ${after.join(", ")} could not be installed (${command}): ` +
      new TextDecoder().decode(stderr).trim().split("\n").slice(-3).join(" "),
  );
}

/** Where a program is, daemons' folders included. */
async function find(program: string): Promise<string | undefined> {
  for (const folder of [...(Deno.env.get("PATH") ?? "").split(":"), "/usr/sbin", "/sbin"]) {
    if (folder !== "" && await exists(join(folder, program))) return join(folder, program);
  }
  return undefined;
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

function signal(pid: number, name: Deno.Signal): void {
  try {
    Deno.kill(pid, name);
  } catch (error) {
    // It has ended.
    if (!(error instanceof Deno.errors.NotFound) && !(error instanceof TypeError)) throw error;
  }
}

async function output(program: string, ...args: string[]): Promise<string> {
  const { stdout } = await new Deno.Command(program, { args }).output();
  return new TextDecoder().decode(stdout).trim();
}

async function exists(path: string): Promise<boolean> {
  try {
    await Deno.lstat(path);
    return true;
  } catch {
    return false;
  }
}

function wait(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
