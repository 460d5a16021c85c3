/** The command line of `deno task bundle`. */

import { resolve } from "@std/path";
import { yargs } from "yargs";
import { UserError } from "../../pipeline/errors.ts";
import { findTarget, hostTarget, type Target } from "./targets.ts";

/** How the archive is compressed. */
export type Compression = "xz" | "gzip";

/** The parts of a bundle, and where it goes. */
export interface BundleOptions {
  readonly target: Target;
  /** Absolute path of the archive. */
  readonly out: string;
  readonly compression: Compression;
  /** Files, folders and patterns of text for `data.source=files`, as typed: a resolved pattern may be another one. */
  readonly data: readonly string[];
  /** Any other files, absolute. */
  readonly include: readonly string[];
  /** Whether Dawn is part of it. */
  readonly dawn: boolean;
  /** Whether tests, declarations, committed results and notebooks are left out. */
  readonly slim: boolean;
}

/** Path of `xz`, or `undefined`; a parameter of {@linkcode parseOptions}, so that a test can do without. */
export async function hasXz(): Promise<boolean> {
  try {
    const { success } = await new Deno.Command("xz", {
      args: ["--version"],
      stdout: "null",
      stderr: "null",
    }).output();
    return success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

function parser() {
  return yargs()
    .scriptName("deno task bundle")
    .usage(
      "Writes one archive with which a machine without network runs the project: Deno, the packages, the tree.\n\n" +
        "Usage: $0 [options]",
    )
    .locale("en")
    .exitProcess(false)
    .showHelpOnFail(false)
    .version(false)
    .help(false)
    .wrap(100)
    .parserConfiguration({
      "dot-notation": false,
      "duplicate-arguments-array": true,
      "greedy-arrays": true,
      "boolean-negation": false,
      "camel-case-expansion": false,
      "parse-positional-numbers": false,
    })
    .option("out", {
      type: "string",
      requiresArg: true,
      describe:
        "The archive, .tar.xz or .tar.gz (default: ethos-bundle-<target>.tar.xz, .tar.gz without xz)",
    })
    .option("target", {
      type: "string",
      requiresArg: true,
      describe:
        "linux-x64, linux-arm64, darwin-x64 or darwin-arm64 (default: this machine's platform)",
    })
    .option("data", {
      type: "string",
      array: true,
      requiresArg: true,
      describe:
        "Files, folders or patterns of text (.jsonl, .json, .txt, each with or without .gz), put in data/",
    })
    .option("include", {
      type: "string",
      array: true,
      requiresArg: true,
      describe:
        "Other files, put in include/; shared libraries there are found, libvulkan.so.1 too",
    })
    .option("dawn", { type: "boolean", describe: "Dawn too, for ETHOS_GPU=dawn" })
    .option("slim", {
      type: "boolean",
      describe: "Without tests, declarations, committed results and notebooks",
    })
    .option("help", { type: "boolean", describe: "Show this" })
    .example("$0", "everything but text of your own")
    .example("$0 --data c4/*.json.gz --dawn", "with C4 records and Dawn")
    .example("$0 --out /tmp/ethos.tar.gz --slim", "larger, in seconds")
    .strict()
    .fail((said, error) => {
      const message = said ?? error?.message;
      throw new UserError(
        `${
          message?.replace(/\s+/g, " ").trim() ?? "Bad arguments."
        } See \`deno task bundle --help\`.`,
      );
    });
}

/**
 * Reads the command line.
 *
 * @param options `xz`: whether there is an `xz`.
 * @returns The options, or the help text.
 * @throws UserError when an option is wrong. Nothing is written here.
 */
export async function parseOptions(
  args: readonly string[],
  options: { xz: boolean },
): Promise<BundleOptions | string> {
  const parsed = await parser().parseAsync(args);
  if (parsed["help"] === true) return await parser().getHelp();
  const strays = parsed._;
  if (strays.length > 0) {
    throw new UserError(`Unknown argument \`${strays[0]}\`. See \`deno task bundle --help\`.`);
  }
  for (const name of ["out", "target", "dawn", "slim"]) {
    const value = parsed[name];
    if (Array.isArray(value)) {
      throw new UserError(`--${name} is given ${value.length} times; expected it once.`);
    }
  }
  const target = targetOf(parsed["target"] as string | undefined);
  const out = resolve(
    parsed["out"] as string | undefined ??
      `ethos-bundle-${target.name}.tar.${options.xz ? "xz" : "gz"}`,
  );
  const compression = out.endsWith(".tar.xz")
    ? "xz"
    : /\.(?:tar\.gz|tgz)$/.test(out)
    ? "gzip"
    : undefined;
  if (compression === undefined) {
    throw new UserError(`--out is ${out}; expected a name that ends with .tar.xz or .tar.gz.`);
  }
  if (compression === "xz" && !options.xz) {
    throw new UserError(
      `--out is ${out}, but there is no xz on this machine; expected .tar.gz (or install xz-utils).`,
    );
  }
  return {
    target,
    out,
    compression,
    data: words(parsed["data"]),
    include: words(parsed["include"]).map((path) => resolve(path)),
    dawn: parsed["dawn"] === true,
    slim: parsed["slim"] === true,
  };
}

function targetOf(name: string | undefined): Target {
  if (name !== undefined) return findTarget(name);
  const host = hostTarget();
  if (host === undefined) {
    throw new UserError(`Nothing can be bundled for ${Deno.build.target}; give a --target.`);
  }
  return host;
}

function words(value: unknown): string[] {
  return ((value ?? []) as readonly unknown[]).map(String);
}
