// @ts-types="./cli_progress.d.ts"
export * from "npm:cli-progress@3.12.0";
