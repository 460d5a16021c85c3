// @ts-types="./tar_stream.d.ts"
export { pack } from "npm:tar-stream@3.2.2";
export type { Headers, Pack } from "./tar_stream.d.ts";
