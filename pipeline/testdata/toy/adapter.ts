/** What the toy's training says that it computed on; chosen on the command line. */
export const adapter = { name: "abacus" };
