import { assertEquals, assertThrows } from "@std/assert";
import { SourceError } from "../error.ts";
import { askedPause, contentRange, nextLink, nextPage, rateLimit, retryAfter } from "./headers.ts";

const NOW = Date.UTC(2030, 0, 1);

Deno.test("retryAfter: seconds, or a date in each of the three forms", () => {
  const cases: [string | null, number | undefined][] = [
    ["7", 7000],
    [" 0 ", 0],
    ["1.5", 1500],
    ["Tue, 01 Jan 2030 00:01:40 GMT", 100_000],
    ["Tuesday, 01-Jan-30 00:01:40 GMT", 100_000],
    ["Tue Jan  1 00:01:40 2030", 100_000],
    ["Thu, 01 Jan 1970 00:00:00 GMT", 0],
    // None of these is a time, though `Number` or `Date.parse` would take it for one.
    ...["", "soon", "soon 1", "-5", "0x10", "1e3", "Infinity", "12 apples"]
      .map((text): [string, undefined] => [text, undefined]),
    [null, undefined],
  ];
  for (const [value, expected] of cases) assertEquals(retryAfter(value, NOW), expected, `${value}`);
});

Deno.test("rateLimit: the quota that is used up counts, in the new form and in the older one", () => {
  const cases: [string | null, number | undefined][] = [
    ['"api";r=0;t=100', 100_000],
    ['"api"; r=0; t=100', 100_000],
    ["api;t=100;r=0", 100_000],
    ['"api";r=0;t=100, "pages";r=0;t=200, "files";r=9;t=300', 200_000],
    ['"api";r=5;t=10, "pages";r=9;t=20', 20_000],
    ['"a;r=0;t=9,b;r=0;t=8";r=0;t=3', 3000],
    ["limit=9, remaining=0, reset=50", 50_000],
    ['"api";r=0', undefined],
    ['"api";r=0;t=-1', undefined],
    ["soon", undefined],
    [null, undefined],
  ];
  for (const [value, expected] of cases) assertEquals(rateLimit(value), expected, `${value}`);
});

Deno.test("askedPause: Retry-After first, then RateLimit, then RateLimit-Reset", () => {
  const asked = (status: number, headers: Record<string, string>) =>
    askedPause({ status, headers: new Headers(headers) }, NOW);
  const ratelimit = '"api";r=0;t=100';
  assertEquals(asked(429, { ratelimit }), 100_000);
  assertEquals(asked(429, { ratelimit, "retry-after": "3" }), 3000);
  assertEquals(asked(429, { ratelimit, "ratelimit-reset": "7" }), 100_000);
  assertEquals(asked(429, { "ratelimit-reset": "7" }), 7000);
  assertEquals(asked(429, { ratelimit, "retry-after": "soon" }), 100_000);
  assertEquals(asked(429, { "ratelimit-reset": "soon" }), undefined);
  // A quota says nothing about a server that failed.
  assertEquals(asked(500, { ratelimit }), undefined);
  assertEquals(asked(503, { "retry-after": "3" }), 3000);
  // A date counts from the server's own time, not from that of a machine whose clock is wrong.
  const date = "Tue, 01 Jan 2030 10:00:00 GMT";
  assertEquals(asked(429, { date, "retry-after": "Tue, 01 Jan 2030 10:00:05 GMT" }), 5000);
});

Deno.test("contentRange: first byte and size, or nothing", () => {
  assertEquals(contentRange("bytes 5-9/10"), { start: 5, size: 10 });
  assertEquals(contentRange("bytes 5-9/*"), { start: 5 });
  for (const text of ["bytes */10", "bytes 5-", "items 5-9/10", "", "bytes -5-9/10"]) {
    assertEquals(contentRange(text), {}, text);
  }
});

Deno.test("nextLink: every spelling of RFC 8288", () => {
  const cases: [string | null, string | undefined][] = [
    ['<https://a/b>; rel="next"', "https://a/b"],
    ["</b?c=1>;rel=next", "/b?c=1"],
    ['<?c=1> ; REL = "Next"', "?c=1"],
    ['<x>; rel="prev", <y>; title="a, b; rel=next"; rel="last next"', "y"],
    ['<x>; title="; rel=next"; rel=prev', undefined],
    ["<x>; rel=prev; rel=next", undefined],
    ['<x>; rel="first"', undefined],
    ["nonsense", undefined],
    ["", undefined],
    [null, undefined],
  ];
  for (const [header, expected] of cases) assertEquals(nextLink(header), expected, `${header}`);
  for (const header of ['x; rel="next"', "<x; rel=next", '<x>; rel="prev", <y; rel=next']) {
    assertThrows(() => nextLink(header), SourceError, "can't be read", header);
  }
});

Deno.test("nextPage: only the path below the API is taken from a link", () => {
  const path = "/api/datasets/a/b/tree/main/en";
  const page = (header: string, endpoint = "https://mirror.example/hf", url = endpoint + path) =>
    nextPage(`<${header}>; rel="next"`, { endpoint, url: `${url}?x=1` });
  const next = `https://mirror.example/hf${path}?cursor=2`;
  assertEquals(page(`https://huggingface.co${path}?cursor=2`), next);
  assertEquals(page(`https://mirror.example${path}?cursor=2`), next);
  assertEquals(page(`https://mirror.example/hf${path}?cursor=2#top`), next);
  assertEquals(page(`//other.example/deep${path}?cursor=2`), next);
  assertEquals(page(`${path}?cursor=2`), next);
  assertEquals(page("?cursor=2"), next);
  assertEquals(page("en?cursor=2"), next);
  // The path of a mirror may look like the API's.
  const below = "https://mirror.example/api/datasets/x";
  assertEquals(page(`${below}${path}?cursor=2`, below), `${below}${path}?cursor=2`);
  // A redirected page names its successor where it ended up.
  assertEquals(
    page("?cursor=2", "https://mirror.example", `https://other.example${path}`),
    `https://mirror.example${path}?cursor=2`,
  );
  for (const header of ["https://mirror.example/login", "javascript:alert(1)", "http://", "/"]) {
    assertThrows(() => page(header), SourceError, "no page of a dataset's listing", header);
  }
});
