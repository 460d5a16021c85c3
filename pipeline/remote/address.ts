/**
 * Addresses of remote stores: `s3://bucket/prefix`, `https://host/path`, `file:///folder`.
 *
 * @module
 */

import { fromFileUrl } from "@std/path";
import { UserError } from "../errors.ts";

/** A remote store's address. `name` is how messages and provenance call it; it holds no credential. */
export type RemoteAddress =
  | {
    readonly kind: "s3";
    readonly name: string;
    readonly bucket: string;
    /** Without slashes at its ends; may be empty. */
    readonly prefix: string;
  }
  /** `url` has no slash at its end. */
  | { readonly kind: "http"; readonly name: string; readonly url: string }
  | { readonly kind: "file"; readonly name: string; readonly folder: string };

const FORMS = "s3://bucket/prefix, https://host/path, http://host/path or file:///folder";
const BUCKET = /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/;
/** Parts of a prefix; characters that every server and every signature takes alike. */
const PREFIX = /^[A-Za-z0-9_.-]+(\/[A-Za-z0-9_.-]+)*$/;

/**
 * Reads an address.
 *
 * ```ts
 * import { parseRemote } from "./address.ts";
 * const address = parseRemote("s3://models/team/", "--remote");
 * console.assert(address.kind === "s3" && address.prefix === "team");
 * ```
 *
 * @param from The option or variable that gave it, for messages.
 * @throws UserError when it is none, or holds a credential. The message doesn't repeat a credential.
 */
export function parseRemote(text: string, from: string): RemoteAddress {
  if (!URL.canParse(text)) {
    throw new UserError(`${from} is ${quote(withoutUser(text))}; expected ${FORMS}.`);
  }
  const url = new URL(text);
  if (url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== "") {
    throw new UserError(
      `${from} has a user, a password, a query or a fragment; expected ${FORMS} without one. ` +
        "Credentials of S3 come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or a profile, " +
        "a token for http from ETHOS_REMOTE_TOKEN.",
    );
  }
  switch (url.protocol) {
    case "s3:":
      return parseS3(text, from);
    case "http:":
    case "https:": {
      const address = url.href.replace(/\/+$/, "");
      return { kind: "http", name: address, url: address };
    }
    case "file:": {
      if (url.host !== "" && url.host !== "localhost") {
        throw new UserError(
          `${from} is ${quote(text)}; a folder's address has three slashes, file:///folder.`,
        );
      }
      const folder = fromFileUrl(`file://${url.pathname.replace(/(.)\/+$/, "$1")}`);
      return { kind: "file", name: `file://${folder}`, folder };
    }
    default:
      throw new UserError(`${from} is ${quote(text)}; expected ${FORMS}.`);
  }
}

function parseS3(text: string, from: string): RemoteAddress {
  // Not the URL's parts: its parser changes the bucket of some schemes, and folds `..`.
  const [, bucket = "", rest = ""] = /^s3:\/\/([^/]*)\/*(.*)$/i.exec(text) ?? [];
  if (!BUCKET.test(bucket) || bucket.includes("..")) {
    throw new UserError(
      `${from} names the bucket ${quote(bucket)}; expected 3 to 63 lower-case letters, ` +
        "digits, dots and hyphens.",
    );
  }
  const prefix = rest.replace(/\/+$/, "");
  const parts = prefix.split("/");
  if (prefix !== "" && (!PREFIX.test(prefix) || parts.includes(".") || parts.includes(".."))) {
    throw new UserError(
      `${from} has the prefix ${quote(prefix)}; expected letters, digits, dots, hyphens and ` +
        "underscores between single slashes.",
    );
  }
  const name = prefix === "" ? `s3://${bucket}` : `s3://${bucket}/${prefix}`;
  return { kind: "s3", name, bucket, prefix };
}

/** An address that can't be read, without anything that could be a password. */
function withoutUser(text: string): string {
  return text.replace(/\/\/[^/]*@/, "//…@").replace(/[?#].*$/, "?…");
}

function quote(text: string): string {
  return JSON.stringify(text);
}
