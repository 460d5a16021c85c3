// deno-lint-ignore-file no-console -- what a program prints is its output
/**
 * Writes `results/claims.md`: every claim of the sources with our figures, their data and the verdict. `--check` compares
 * instead, and ends with 1 where the page is not what would be written.
 */

import { fromFileUrl } from "@std/path";
import { claimsPage } from "../stages/report/claims/page.ts";

const RESULTS = fromFileUrl(new URL("../results/", import.meta.url));
const PAGE = `${RESULTS}claims.md`;

const [option, ...rest] = Deno.args;
if (rest.length > 0 || (option !== undefined && option !== "--check")) {
  console.error(`Unknown argument ${JSON.stringify(rest[0] ?? option)}; expected --check or none`);
  Deno.exit(2);
}
const page = await claimsPage(RESULTS);
if (option === undefined) {
  await Deno.writeTextFile(PAGE, page);
  console.log("Wrote results/claims.md");
} else if (await Deno.readTextFile(PAGE).catch(() => "") === page) {
  console.log("results/claims.md is up to date");
} else {
  console.error("results/claims.md is not what deno task claims writes; run it");
  Deno.exit(1);
}
