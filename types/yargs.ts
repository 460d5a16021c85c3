// @ts-types="./yargs.d.ts"
export { default as yargs } from "npm:yargs@18.2.0";
export type { Arguments, Argv, OptionSpec } from "./yargs.d.ts";
