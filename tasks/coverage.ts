// deno-lint-ignore-file no-console -- what a program prints is its output
/**
 * Reports the line coverage of `pipeline/`, `stages/` and `model/` from `deno test --coverage=coverage/raw`.
 * Prints a table and writes `coverage/lcov.info` for editors. Exits with 1 when the total is below `--min=PERCENT`.
 */

const FOLDERS = ["pipeline", "stages", "model"] as const;

const minimum = Number(Deno.args.find((arg) => arg.startsWith("--min="))?.slice(6) ?? 0);
if (!(minimum >= 0 && minimum <= 100)) {
  console.error("--min takes a percentage: --min=85");
  Deno.exit(2);
}
const lcov = "coverage/lcov.info";
const { success } = await new Deno.Command(Deno.execPath(), {
  args: [
    "coverage",
    "coverage/raw",
    "--lcov",
    `--output=${lcov}`,
    "--exclude=(_test|_bench|testing)\\.ts$|node_modules|/testdata/",
  ],
  stdout: "null",
  stderr: "inherit",
}).output();
if (!success) Deno.exit(1);

const root = Deno.cwd() + "/";
const totals = new Map<string, { lines: number; hit: number }>();
const files: { path: string; lines: number; hit: number }[] = [];
for (const record of (await Deno.readTextFile(lcov)).split("end_of_record")) {
  const path = record.match(/^SF:(.*)$/m)?.[1]?.replace(root, "");
  const folder = FOLDERS.find((name) => path?.startsWith(name + "/"));
  if (path === undefined || folder === undefined) continue;
  const lines = Number(record.match(/^LF:(\d+)$/m)?.[1] ?? 0);
  const hit = Number(record.match(/^LH:(\d+)$/m)?.[1] ?? 0);
  files.push({ path, lines, hit });
  for (const name of [folder, "total"]) {
    const total = totals.get(name) ?? { lines: 0, hit: 0 };
    totals.set(name, { lines: total.lines + lines, hit: total.hit + hit });
  }
}
const percent = ({ lines, hit }: { lines: number; hit: number }) =>
  lines === 0 ? 100 : 100 * hit / lines;
const row = (name: string, entry: { lines: number; hit: number }) =>
  console.log(
    `${percent(entry).toFixed(1).padStart(6)} %  ${
      `${entry.hit}/${entry.lines}`.padStart(13)
    }  ${name}`,
  );
for (const file of files.sort((a, b) => percent(a) - percent(b))) row(file.path, file);
console.log();
for (const name of [...FOLDERS, "total"]) {
  const total = totals.get(name);
  if (total) row(name, total);
}
const total = totals.get("total");
if (total === undefined) {
  console.error("No lines of pipeline/, stages/ or model/ were covered. Run `deno task coverage`.");
  Deno.exit(1);
}
if (percent(total) < minimum) {
  console.error(`Line coverage is ${percent(total).toFixed(1)} %, below ${minimum} %.`);
  Deno.exit(1);
}
