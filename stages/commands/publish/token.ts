/**
 * The user's token of the Hugging Face hub, where the hub's own tools keep it.
 *
 * @module
 */

import { join } from "@std/path";
import { UserError } from "../../../pipeline/errors.ts";

/**
 * The token: `HF_TOKEN`, or the file that `HF_TOKEN_PATH` names, or `token` in `HF_HOME` or in `huggingface` where the system keeps caches.
 *
 * @throws {UserError} If there is none, or it can't be one; the message does not hold it.
 */
export async function findToken(): Promise<string> {
  const of = (name: string) => Deno.env.get(name)?.trim() || undefined;
  const given = of("HF_TOKEN");
  const path = of("HF_TOKEN_PATH") ?? join(homeFolder(of), "token");
  const token = given ?? await readToken(path);
  if (token === undefined) {
    throw new UserError(`There is no token of the hub: set HF_TOKEN, or put one into ${path}.`);
  }
  if (!/^hf_[\x21-\x7e]+$/.test(token)) {
    throw new UserError(
      `${
        given === undefined ? path : "HF_TOKEN"
      } is not a token of the hub; one begins with hf_ and has letters and digits.`,
    );
  }
  return token;
}

function homeFolder(of: (name: string) => string | undefined): string {
  const home = of("HF_HOME");
  if (home !== undefined) return home;
  const user = of("HOME") ?? of("USERPROFILE") ?? "";
  return join(of("XDG_CACHE_HOME") ?? join(user, ".cache"), "huggingface");
}

async function readToken(path: string): Promise<string | undefined> {
  try {
    return (await Deno.readTextFile(path)).trim() || undefined;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    const why = error instanceof Error ? error.name : String(error);
    throw new UserError(`The token's file ${path} can't be read: ${why}.`, { cause: error });
  }
}
