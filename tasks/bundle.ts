// deno-lint-ignore-file no-console -- what a program prints is its output
/**
 * Writes one archive with which a machine without network runs the project: Deno's executable, the locked packages, the
 * tree, and what the user adds. Ends by unpacking it and running it without network.
 *
 * ```sh
 * deno task bundle --data c4/*.json.gz --dawn
 * ```
 */

import { basename, dirname, fromFileUrl, join } from "@std/path";
import { EXIT, exitCodeOf, explain, UserError } from "../pipeline/errors.ts";
import { listFolder, writeArchive } from "./bundle/archive.ts";
import { checkBundle } from "./bundle/check.ts";
import { describeBundle, writeManifest } from "./bundle/manifest.ts";
import { type BundleOptions, hasXz, parseOptions } from "./bundle/options.ts";
import {
  findDeno,
  installPackages,
  prunePackages,
  rememberPackages,
  runsInBundle,
} from "./bundle/packages.ts";
import { runScript, type Task } from "./bundle/run_script.ts";
import { hostTarget } from "./bundle/targets.ts";
import { copyFiles, copyTree, findData, findIncluded, readRevision } from "./bundle/tree.ts";

const ROOT = fromFileUrl(new URL("..", import.meta.url));

/** Puts the bundle together in a folder, and says what it is called. */
async function assemble(bundle: string, work: string, options: BundleOptions): Promise<Date> {
  const { target, dawn, slim } = options;
  const wanted = (await Deno.readTextFile(join(ROOT, ".dvmrc"))).trim();
  if (Deno.version.deno !== wanted) {
    throw new UserError(
      `This is Deno ${Deno.version.deno}; expected ${wanted}, which ./setup.sh installs.`,
    );
  }
  const [data, included, revision] = await Promise.all([
    findData(options.data, { warn: say }),
    findIncluded(options.include),
    readRevision(ROOT),
  ]);
  const folder = join(work, "deno");
  await Deno.mkdir(folder);
  const executable = await findDeno(target, { deno: Deno.execPath(), host: hostTarget(), folder });
  say("packages …");
  await copyTree(ROOT, bundle, { slim, skip: [options.out] });
  const deno = Deno.execPath();
  await installPackages(bundle, { deno, target });
  const modules = (await listFolder(bundle)).map(({ path }) => path).filter(runsInBundle);
  const pruned = await prunePackages(bundle, { deno, target, modules, dawn, slim });
  await rememberPackages(bundle, { deno, target, host: hostTarget() });
  await Deno.mkdir(join(bundle, "bin"));
  await Deno.copyFile(executable, join(bundle, "bin/deno"));
  await Deno.chmod(join(bundle, "bin/deno"), 0o755);
  await copyFiles(data.files, bundle);
  await copyFiles(included, bundle);
  const config = JSON.parse(await Deno.readTextFile(join(bundle, "deno.json"))) as {
    tasks: Record<string, Task>;
  };
  const files = new Set((await listFolder(bundle)).map(({ path }) => path));
  await Deno.writeTextFile(join(bundle, "run.sh"), runScript(config.tasks, files));
  await Deno.chmod(join(bundle, "run.sh"), 0o755);
  const about = { target: target.name, revision, pruned, dawn, slim, globs: data.globs };
  await writeManifest(bundle, await describeBundle(bundle, about));
  for (const glob of data.globs) {
    say(`text: --set data.source=files --set data.files.glob='${glob}'`);
  }
  return revision.time;
}

/** Makes, checks and names the archive; nothing of it is left when that fails. */
async function makeBundle(options: BundleOptions): Promise<void> {
  const { out, target, compression } = options;
  const started = performance.now();
  const name = `ethos-bundle-${target.name}`;
  const work = await Deno.realPath(await Deno.makeTempDir({ prefix: "ethos-bundle-" }));
  const partial = `${join(dirname(out), `.${basename(out)}`)}.partial`;
  try {
    const bundle = join(work, name);
    const mtime = await assemble(bundle, work, options);
    const entries = await listFolder(bundle);
    const bytes = entries.reduce((sum, { size }) => sum + size, 0);
    say(`${megabytes(bytes)} in ${entries.length} files; ${compression} …`);
    const x86 = target.arch === "x64";
    await writeArchive(bundle, { out: partial, name, mtime, compression, x86 });
    if (target === hostTarget()) {
      say("unpacking it and running it without network …");
      const folder = join(work, "check");
      await Deno.mkdir(folder);
      const checked = await checkBundle(partial, {
        name,
        deno: Deno.execPath(),
        root: ROOT,
        folder,
      });
      if (!checked.isolated) say("the network could not be taken away for the check");
      if (!checked.reproduced) say("no WebGPU device answered: the check trained no model");
    } else {
      say(`not run: this machine is not ${target.name}`);
    }
    await Deno.rename(partial, out);
    const { size } = await Deno.stat(out);
    const seconds = ((performance.now() - started) / 1000).toFixed(0);
    console.log(`${out}: ${megabytes(size)}, ${seconds} s`);
  } finally {
    await Deno.remove(partial).catch(() => {});
    await Deno.remove(work, { recursive: true });
  }
}

function say(line: string): void {
  console.error(`bundle: ${line}`);
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

async function main(args: readonly string[]): Promise<number> {
  try {
    const options = await parseOptions(args, { xz: await hasXz() });
    if (typeof options === "string") console.log(options);
    else await makeBundle(options);
    return EXIT.ok;
  } catch (error) {
    console.error(`error: ${explain(error)}`);
    return exitCodeOf(error);
  }
}

if (import.meta.main) Deno.exit(await main(Deno.args));
