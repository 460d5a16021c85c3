/**
 * Configurations that must be refused, and the message for each; read by the tests of the schema and of the command
 * line.
 *
 * @module
 */

import { MALFORMED_ABLATIONS } from "./ablations_testing.ts";
import { MALFORMED_FILES } from "./files_testing.ts";
import type { Malformed } from "./malformed_testing.ts";
import { MALFORMED_MODELS } from "./models_testing.ts";
import { movedKeys } from "./moved_keys_testing.ts";
import { MALFORMED_VALUES } from "./values_testing.ts";

/** Every malformed configuration but those of the real stages' own sections. */
export const MALFORMED: readonly Malformed[] = [
  ...MALFORMED_VALUES,
  ...MALFORMED_MODELS,
  ...MALFORMED_ABLATIONS,
  ...movedKeys(),
  ...MALFORMED_FILES,
];
