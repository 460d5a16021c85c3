// @ts-types="./opentype.d.ts"
export { default } from "npm:opentype.js@2.0.0";
