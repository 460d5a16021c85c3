// @ts-types="./std_data_structures.d.ts"
export * from "npm:deno-std@1.4.0/data_structures/mod.js";
