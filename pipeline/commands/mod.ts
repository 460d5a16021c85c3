/**
 * The engine's own commands. Each module is light: what is heavy is imported when the command runs.
 *
 * @module
 */

import type { Command } from "../command.ts";
import { clean } from "./clean.ts";
import { dag } from "./dag.ts";
import { dashboard } from "./dashboard.ts";
import { diff } from "./diff.ts";
import { exportCommand } from "./export.ts";
import { gc } from "./gc.ts";
import { pull } from "./pull.ts";
import { push } from "./push.ts";
import { rebuild } from "./rebuild.ts";
import { reproduce, sweep } from "./reproduce.ts";
import { runNode } from "./run_node.ts";
import { runs } from "./runs.ts";
import { sql } from "./sql.ts";
import { status } from "./status.ts";
import { tensorboard } from "./tensorboard.ts";
import { verify } from "./verify.ts";
import { why } from "./why.ts";

/** In the order of `--help`. */
export const COMMANDS: readonly Command[] = [
  reproduce,
  sweep,
  status,
  why,
  dag,
  runs,
  dashboard,
  diff,
  sql,
  exportCommand,
  tensorboard,
  push,
  pull,
  verify,
  rebuild,
  gc,
  clean,
  runNode,
];
