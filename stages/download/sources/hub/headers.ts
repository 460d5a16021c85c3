/**
 * Headers of the hub's answers: how long to wait, where a listing goes on, which bytes came.
 *
 * @module
 */

import { quote, SourceError } from "../error.ts";

/** The path of every address of the hub's API that lists a dataset, below the endpoint. */
const API = "/api/datasets/";
/** A link of a `Link` header with its parameters, and one parameter. */
const LINK =
  /^[\s,]*<([^<>]*)>((?:\s*;\s*[\w!#$&+.^`|~*-]+(?:\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s";,]*))?)*)\s*(?=,|$)/;
const PARAMETER = /;\s*([\w!#$&+.^`|~*-]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s";,]*)))?/g;
/** The three forms of a date in HTTP (RFC 9110, 5.6.7); all of them are in GMT. */
const DATE = /^(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,? [\w: -]+?(?<zone> gmt)?$/i;

/** Milliseconds since 1970 of a date in a header. */
function httpDate(value: string): number | undefined {
  const form = DATE.exec(value);
  if (!form) return undefined;
  const date = Date.parse(form.groups?.zone === undefined ? `${value} GMT` : value);
  return Number.isNaN(date) ? undefined : date;
}

/**
 * Milliseconds that a `Retry-After` header asks for: seconds or a date.
 *
 * @param now Milliseconds since 1970 that a date is counted from.
 */
export function retryAfter(value: string | null, now: number): number | undefined {
  const text = value?.trim() ?? "";
  if (/^\d{1,15}(?:\.\d{1,15})?$/.test(text)) return Number(text) * 1000;
  const date = httpDate(text);
  return date === undefined ? undefined : Math.max(0, date - now);
}

/**
 * Milliseconds until a `RateLimit` header's quota is there again: `"api";r=0;t=100`, or `limit=9, remaining=0, reset=100`
 * as drafts before it had it. Of several quotas the used up ones count, or all if none is.
 */
export function rateLimit(value: string | null): number | undefined {
  // Names of quotas are quoted and may hold anything.
  const items = (value ?? "").replaceAll(/"(?:[^"\\]|\\.)*"/g, "name").split(",");
  const quotas = items.map((item) => ({
    left: /;\s*r\s*=\s*(\d{1,15})\s*(?:;|$)/i.exec(item)?.[1],
    seconds: /;\s*t\s*=\s*(\d{1,15})\s*(?:;|$)/i.exec(item)?.[1] ??
      /^\s*reset\s*=\s*(\d{1,15})\s*(?:;|$)/i.exec(item)?.[1],
  })).filter(({ seconds }) => seconds !== undefined);
  if (quotas.length === 0) return undefined;
  const spent = quotas.filter(({ left }) => left !== undefined && Number(left) === 0);
  const seconds = (spent.length > 0 ? spent : quotas).map((quota) => Number(quota.seconds));
  return Math.max(...seconds) * 1000;
}

/**
 * Milliseconds that an answer asks to wait before the next request. `Retry-After` says it for any status; after 429 also
 * `RateLimit` and the older `RateLimit-Reset`, in seconds.
 *
 * @param now Milliseconds since 1970, by the own clock; the server's `Date` counts instead where it is given.
 */
export function askedPause(
  answer: { readonly status: number; readonly headers: Headers },
  now: number,
): number | undefined {
  const { headers, status } = answer;
  const asked = retryAfter(
    headers.get("retry-after"),
    httpDate(headers.get("date")?.trim() ?? "") ?? now,
  );
  if (asked !== undefined || status !== 429) return asked;
  return rateLimit(headers.get("ratelimit")) ??
    retryAfter(headers.get("ratelimit-reset")?.match(/^\s*\d+\s*$/)?.[0] ?? null, now);
}

/** First byte and length of the whole file, as a `Content-Range` header gives them; `undefined` what it leaves open. */
export function contentRange(value: string | null): { start?: number; size?: number } {
  const parts = /^\s*bytes\s+(\d{1,15})-\d{1,15}\/(\d{1,15}|\*)\s*$/i.exec(value ?? "");
  if (!parts) return {};
  const size = parts[2] === "*" ? {} : { size: Number(parts[2]) };
  return { start: Number(parts[1]), ...size };
}

/**
 * Target of the link that a `Link` header (RFC 8288) says is the next one, as the header has it.
 *
 * @throws {SourceError} if the header can't be read and may name a next page.
 */
export function nextLink(header: string | null): string | undefined {
  let rest = header ?? "";
  let next: string | undefined;
  for (;;) {
    const found = LINK.exec(rest);
    if (!found) break;
    rest = rest.slice(found[0].length);
    // The first of several counts.
    const rel = [...found[2]!.matchAll(PARAMETER)].find(([, name]) =>
      name?.toLowerCase() === "rel"
    );
    const names = (rel?.[2] ?? rel?.[3] ?? "").toLowerCase().split(/\s+/);
    if (names.includes("next")) next ??= found[1]!;
  }
  if (/[^\s,]/.test(rest) && next === undefined && /next/i.test(rest)) {
    throw new SourceError(
      `The hub's listing has a next page in a Link header that can't be read: ${quote(header!)}`,
    );
  }
  return next;
}

/**
 * Address of a listing's next page on the endpoint's own host. A mirror may pass on links of the hub that it mirrors, and
 * may leave out the path that it lies below: only what follows `/api/datasets/` is taken from a link.
 *
 * @param header The `Link` header.
 * @param from The endpoint, without a slash at the end, and the address that the page came from.
 * @throws {SourceError} if a next page is announced that is no page of a listing.
 */
export function nextPage(
  header: string | null,
  from: { readonly endpoint: string; readonly url: string },
): string | undefined {
  const target = nextLink(header);
  if (target === undefined) return undefined;
  const { pathname: prefix } = new URL(from.endpoint + "/");
  const url = URL.canParse(target, from.url) ? new URL(target, from.url) : undefined;
  const path = url?.pathname ?? "";
  const start = path.startsWith(prefix.slice(0, -1) + API) ? prefix.length - 1 : path.indexOf(API);
  if (url === undefined || !/^https?:$/.test(url.protocol) || start < 0) {
    throw new SourceError(
      `The hub's listing goes on at ${quote(target)}, which is no page of a dataset's listing`,
    );
  }
  return from.endpoint + path.slice(start) + url.search;
}
