/**
 * `publish-model`: an exported model on the Hugging Face hub.
 *
 * @module
 */

import { join, resolve, toFileUrl } from "@std/path";
import { z } from "zod";
import { MODEL_FILE } from "../../../model/checkpoint/checkpoint.ts";
import { NETWORK_FILE } from "../../../model/export/transformers.ts";
import { messageOf, UserError } from "../../../pipeline/errors.ts";
import { SourceError } from "../../download/sources/error.ts";
import { Hub } from "../../download/sources/hub/hub.ts";
import { HUB_NAME } from "../../pretrained/fetch.ts";
import { CARD_FILE } from "./card.ts";
import { PROVENANCE_FILE } from "./provenance.ts";
import { fetchWithFiles } from "./send_file.ts";
import { findToken } from "./token.ts";

/** Options of {@linkcode publishModel}. */
export interface PublishModelOptions {
  /** Folder that `export-model` wrote. */
  readonly folder: string;
  /** `ORG/NAME`. */
  readonly repo: string;
  /** Whether a repository that is made is private. One that is there stays as it is. */
  readonly private: boolean;
  /** Title of the commit. */
  readonly message: string;
  /** Lists what would be sent, and asks the hub nothing. */
  readonly dryRun: boolean;
}

/** A file that is sent. */
interface PublishedFile {
  readonly path: string;
  /** Bytes. */
  readonly size: number;
}

/** A published model, or what would be one. */
export interface PublishedModel {
  readonly repo: string;
  readonly files: readonly PublishedFile[];
  /** Text of the card. */
  readonly card: string;
  /** Not there in a dry run. */
  readonly published?: {
    /** Whether the repository was made; otherwise it was there. */
    readonly created: boolean;
    readonly commit: string;
    readonly url: string;
  };
}

/** Files without which a folder is no exported model. */
const REQUIRED = [CARD_FILE, "config.json", MODEL_FILE, NETWORK_FILE, PROVENANCE_FILE];

const configSchema = z.looseObject({ model_type: z.literal("ethos") });

/**
 * Sends a folder's files as one commit, after making the repository where there is none.
 *
 * @throws {UserError} In one line, before anything is sent, if the folder, the name or the token can't be right.
 * @throws {SourceError} In one line, if the hub refuses or can't be reached.
 */
export async function publishModel(options: PublishModelOptions): Promise<PublishedModel> {
  const { repo, dryRun } = options;
  if (!HUB_NAME.test(repo)) {
    throw new UserError(`--repo is ${JSON.stringify(repo)}; expected ORG/NAME.`);
  }
  const folder = resolve(options.folder);
  const files = await filesIn(folder);
  const card = await Deno.readTextFile(join(folder, CARD_FILE));
  if (dryRun) return { repo, files, card };
  const token = await findToken();
  const { endpoint } = new Hub({ token, offline: offline() }, {
    signal: new AbortController().signal,
    warn() {},
  });
  try {
    const published = await send(folder, files, { ...options, endpoint, token });
    return { repo, files, card, published };
  } catch (error) {
    throw refusal(error, { repo, endpoint, token });
  }
}

/** The folder's files, after a look at whether it is a model's. */
async function filesIn(folder: string): Promise<PublishedFile[]> {
  const files: PublishedFile[] = [];
  try {
    for await (const { name, isFile } of Deno.readDir(folder)) {
      if (!isFile) {
        throw new UserError(
          `${join(folder, name)} is no file; expected a folder as export-model writes it.`,
        );
      }
      files.push({ path: name, size: (await Deno.stat(join(folder, name))).size });
    }
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError(`--folder ${folder} can't be read: ${messageOf(error)}.`, {
      cause: error,
    });
  }
  const missing = REQUIRED.filter((name) => files.every(({ path }) => path !== name));
  if (missing.length > 0) {
    throw new UserError(
      `--folder ${folder} is no exported model: it has no ${
        missing.join(", ")
      }; export-model writes one.`,
    );
  }
  const path = join(folder, "config.json");
  try {
    configSchema.parse(JSON.parse(await Deno.readTextFile(path)));
  } catch (error) {
    throw new UserError(`${path} is not that of an exported model: expected model_type ethos.`, {
      cause: error,
    });
  }
  return files.sort((a, b) => a.path < b.path ? -1 : 1);
}

function offline(): boolean {
  const set = /^(?:1|true|yes|on)$/i.test(Deno.env.get("HF_HUB_OFFLINE")?.trim() ?? "");
  if (set) throw new UserError("HF_HUB_OFFLINE is set, so nothing is sent to the hub; unset it.");
  return false;
}

/** Makes the repository and commits the files. */
async function send(
  folder: string,
  files: readonly PublishedFile[],
  options: PublishModelOptions & { readonly endpoint: string; readonly token: string },
): Promise<NonNullable<PublishedModel["published"]>> {
  const { repo: name, token, endpoint, message } = options;
  const { createRepo, HubApiError, uploadFiles } = await import("@huggingface/hub");
  const shared = {
    repo: { type: "model", name } as const,
    accessToken: token,
    hubUrl: endpoint,
    fetch: fetchWithFiles,
  };
  let created = true;
  try {
    await createRepo({ ...shared, visibility: options.private ? "private" : "public" });
  } catch (error) {
    // The hub says so of a repository that is there.
    if (!(error instanceof HubApiError && error.statusCode === 409)) throw error;
    created = false;
  }
  const output = await uploadFiles({
    ...shared,
    commitTitle: message,
    // Files go to plain storage: the other protocol of the hub is not one that tests can speak.
    useXet: false,
    files: files.map(({ path }) => ({ path, content: toFileUrl(join(folder, path)) })),
  });
  if (output === undefined) throw new SourceError(`The hub names no commit of ${name}`);
  return { created, commit: output.commit.oid, url: `${endpoint}/${name}` };
}

/** An error of the hub or the network in one line, without the token and without the signatures in addresses of storage. */
function refusal(
  error: unknown,
  { repo, endpoint, token }: {
    readonly repo: string;
    readonly endpoint: string;
    readonly token: string;
  },
): Error {
  if (error instanceof SourceError || error instanceof UserError) return error;
  const status = Object(error)["statusCode"];
  const clean = messageOf(error).replaceAll(token, "…").replaceAll(/\?\S+/g, "?…")
    .replaceAll(/\s+/g, " ").slice(0, 300);
  if (status === 401 || status === 403) {
    return new SourceError(
      `The hub refuses ${repo} (status ${status}): the token has no right to write there`,
    );
  }
  if (typeof status === "number") {
    return new SourceError(`The hub refuses ${repo} (status ${status}): ${clean}`);
  }
  return new SourceError(`Sending ${repo} to ${endpoint} failed: ${clean}`);
}
