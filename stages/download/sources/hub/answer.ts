/**
 * Whether an answer comes from the hub at all, and what its status means.
 *
 * @module
 */

import { quote, SourceError, TransientError } from "../error.ts";
import { askedPause } from "./headers.ts";

/** Bytes of a page that are looked at to tell whether it is HTML. */
const SNIFF_BYTES = 1024;

/**
 * Address without the credentials that it may hold, for messages.
 *
 * @param url A whole address.
 */
export function originOf(url: string): string {
  return URL.canParse(url) ? new URL(url).origin : quote(url);
}

/** Whether the bytes begin like a web page. */
export function looksLikeWebPage(bytes: Uint8Array): boolean {
  const start = new TextDecoder().decode(bytes.subarray(0, SNIFF_BYTES));
  return /^\s*(?:<\?xml[^>]*>\s*)?(?:<!--[^>]*-->\s*)*<(?:!doctype\s+html|html|head|body)\b/i
    .test(start);
}

/** Whether a header says that a web page follows. */
export function isWebPage(headers: Headers): boolean {
  return /^\s*(?:text\/html|application\/xhtml\+xml)\b/i.test(headers.get("content-type") ?? "");
}

/**
 * The error for an answer that the hub can't have given.
 *
 * @param answer `url`: who answered; `what`: the path that was asked for; `is`: what came instead; `body`: its text, of
 * which the title is told.
 */
export function notTheHub(
  answer: { readonly url: string; readonly what: string; readonly is: string; body?: string },
): SourceError {
  const title = /<title[^>]*>([^<]{1,500})/i.exec(answer.body ?? "")?.[1]?.trim();
  return new SourceError(
    `${originOf(answer.url)} answers ${answer.what} with ${answer.is}${
      title ? ` ${quote(title, 60)}` : ""
    } and is not the hub; check HF_ENDPOINT, the proxy, and whether the network wants a sign-in`,
  );
}

/**
 * Returns if the status is one of success.
 *
 * @param what The path that was asked for.
 * @param now Milliseconds since 1970.
 * @throws {TransientError} if another attempt may help.
 * @throws {SourceError} otherwise.
 */
export async function checkStatus(response: Response, what: string, now: number): Promise<void> {
  if (response.ok) return;
  const { status } = response;
  await response.body?.cancel();
  if (status === 511) {
    throw notTheHub({ url: response.url, what, is: "status 511 (the network wants a sign-in)" });
  }
  if (status === 408 || status === 429 || status >= 500) {
    throw new TransientError(
      status === 429 ? "status 429, too many requests" : `status ${status}`,
      askedPause(response, now),
    );
  }
  if (status === 401 || status === 403) {
    throw new SourceError(
      `The hub refuses ${what} (status ${status}); a private or gated dataset needs HF_TOKEN`,
    );
  }
  if (status === 404) {
    throw new SourceError(
      `The hub has no ${what} (status 404); check data.c4.dataset, config and revision`,
    );
  }
  throw new SourceError(`The hub answers ${what} with status ${status}`);
}
