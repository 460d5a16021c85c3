/** The toy's training names this adapter; the command line chooses it. */
export const adapter = { name: "abacus" };
