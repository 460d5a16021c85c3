/**
 * Headers and errors of the dashboard's answers.
 *
 * @module
 */

/** An answer that says why there is none. */
export class RequestError extends Error {
  /** HTTP's status. */
  readonly status: number;

  /** Takes the status and one sentence, which repeats nothing of the request. */
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

const COMMON = {
  "cache-control": "no-store",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
};

/** Of the page and its parts: they load from this server alone, and no text becomes markup. */
export const PAGE_HEADERS: Readonly<Record<string, string>> = {
  ...COMMON,
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " +
    "require-trusted-types-for 'script'; trusted-types 'none'",
};

/** Of numbers. */
export const API_HEADERS: Readonly<Record<string, string>> = {
  ...COMMON,
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
};

/** Of files that runs made: they may have their own styles and drawings, but run nothing. */
export const FILE_HEADERS: Readonly<Record<string, string>> = {
  ...COMMON,
  "content-security-policy":
    "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; font-src data:; " +
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " +
    "sandbox allow-same-origin allow-popups allow-downloads",
};

/** A JSON value. */
export function json(value: unknown): Response {
  return new Response(JSON.stringify(value), {
    headers: { ...API_HEADERS, "content-type": "application/json; charset=utf-8" },
  });
}

/** An error as JSON. */
export function fail(
  status: number,
  error: string,
  headers: Readonly<Record<string, string>> = {},
): Response {
  return new Response(JSON.stringify({ error }), {
    status,
    headers: { ...API_HEADERS, "content-type": "application/json; charset=utf-8", ...headers },
  });
}
