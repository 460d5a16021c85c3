// @ts-types="./jstat.d.ts"
export { default } from "npm:jstat@1.9.6";
