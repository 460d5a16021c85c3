/**
 * `--remote`: the remote store of a command.
 *
 * @module
 */

import { type Arguments, type OptionSpec, stringArgument } from "../command.ts";
import { UserError } from "../errors.ts";
import type { Patience } from "../remote/exchange.ts";
import type { Remote } from "../remote/remote.ts";

/** The option of commands that use a remote store. */
export const REMOTE_OPTION: Readonly<Record<string, OptionSpec>> = {
  remote: {
    type: "string",
    requiresArg: true,
    describe:
      "Remote store, s3://bucket/prefix, https://… or file:///… (default: $ETHOS_REMOTE); none for none",
  },
};

/**
 * The remote store that `--remote` or `ETHOS_REMOTE` names, if one does. Nothing is asked yet.
 *
 * @throws UserError when that is no address.
 */
export async function findRemote(args: Arguments): Promise<Remote | undefined> {
  const given = stringArgument(args, "remote");
  const address = given ?? environment("ETHOS_REMOTE");
  if (address === undefined || address === "none") return undefined;
  const { Remote } = await import("../remote/remote.ts");
  const { PATIENCE } = await import("../remote/exchange.ts");
  const from = given === undefined ? "ETHOS_REMOTE" : "--remote";
  return await Remote.open(address, { from, patience: readPatience(PATIENCE) });
}

/**
 * The remote store of a command that needs one.
 *
 * @throws UserError when there is none, or its address is none.
 */
export async function requireRemote(args: Arguments): Promise<Remote> {
  const remote = await findRemote(args);
  if (remote !== undefined) return remote;
  throw new UserError(
    "There is no remote store: expected --remote or ETHOS_REMOTE with " +
      "s3://bucket/prefix, https://host/path or file:///folder.",
  );
}

/** `ETHOS_REMOTE_TIMEOUT`: seconds without progress after which an attempt ends. */
function readPatience(patience: Patience): Patience {
  const text = environment("ETHOS_REMOTE_TIMEOUT");
  if (text === undefined) return patience;
  const seconds = Number(text);
  if (!(seconds > 0 && seconds <= 3600)) {
    throw new UserError(
      `ETHOS_REMOTE_TIMEOUT is ${JSON.stringify(text)}; expected seconds, up to 3600.`,
    );
  }
  return { ...patience, stallMs: 1000 * seconds };
}

function environment(variable: string): string | undefined {
  const permission = Deno.permissions.querySync({ name: "env", variable });
  return permission.state === "granted" ? Deno.env.get(variable)?.trim() || undefined : undefined;
}
