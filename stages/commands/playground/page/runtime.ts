/**
 * Settles what the other modules expect of their runtime. The page's first module: it runs before them.
 *
 * @module
 */

import { config } from "zod";

// Safari has no `Symbol.dispose`; the bundler's code for `using` takes the same stand-in.
if (!Object.hasOwn(Symbol, "dispose")) {
  Object.defineProperty(Symbol, "dispose", { value: Symbol.for("Symbol.dispose") });
}

// The page's policy forbids code that is made of strings, by which zod would check faster.
config({ jitless: true });
