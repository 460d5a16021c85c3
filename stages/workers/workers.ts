/**
 * Gives each worker of a host a device of its own.
 *
 * WebGPU has no index of equal adapters: it takes the first that Vulkan lists, and Vulkan lists every card whose device
 * file can be opened. So a worker's job runs in a mount namespace where the files of the other cards are `/dev/null`. On a
 * processor that plays GPU the workers share the cores instead.
 *
 * @module
 */

import {
  type Arguments,
  stringArgument,
  type Worker,
  type WorkerOptions,
} from "../../pipeline/command.ts";
import { UserError } from "../../pipeline/errors.ts";
import { type Card, describeCard, readCards, selectCards } from "./cards.ts";
import { HIDE } from "./hide_cards.ts";

/** The workers of `--executor process`. */
export const WORKERS: WorkerOptions = {
  options: {
    devices: {
      type: "string",
      requiresArg: true,
      describe:
        "With --executor process: GPUs to use, indices or UUIDs, 0,1 (default: $CUDA_VISIBLE_DEVICES or all)",
    },
  },
  plan: async (args: Arguments, count: number | undefined) =>
    await planWorkers({
      count,
      devices: stringArgument(args, "devices"),
      visible: environment("CUDA_VISIBLE_DEVICES"),
      cards: await readCards(),
    }),
};

/** The facts that workers are planned from. */
export interface WorkerPlan {
  /** How many; by default one for each device. */
  readonly count: number | undefined;
  /** `--devices`. */
  readonly devices: string | undefined;
  /** `CUDA_VISIBLE_DEVICES`, which Slurm sets too. */
  readonly visible: string | undefined;
  /** The cards that this process may open. */
  readonly cards: readonly Card[];
}

/**
 * Makes workers. More workers than devices share them in turn.
 *
 * @throws UserError when a device is not there, or this process may not hide the others from a worker.
 */
export async function planWorkers(plan: WorkerPlan): Promise<Worker[]> {
  const { cards, devices, visible } = plan;
  if (cards.length === 0) {
    if (devices === undefined) return softwareWorkers(plan.count ?? 1);
    throw new UserError(
      `--devices is "${devices}", and this process can open no NVIDIA card; expected none, or a host that has some.`,
    );
  }
  const chosen = devices !== undefined
    ? selectCards(cards, devices, "--devices")
    : visible
    ? selectCards(cards, visible, "CUDA_VISIBLE_DEVICES")
    : cards;
  const workers = Array.from({ length: plan.count ?? chosen.length }, (_, i): Worker => {
    const card = chosen[i % chosen.length]!;
    return { name: describeCard(card), prefix: hidingPrefix(cards, card), env: {} };
  });
  if (cards.length > 1) await assertHides(workers[0]!, cards.length);
  return workers;
}

/** Workers that share the cores: llvmpipe would start a thread for each of them in each worker. */
function softwareWorkers(count: number): Worker[] {
  const threads = Math.max(1, Math.floor(navigator.hardwareConcurrency / count));
  const env: Record<string, string> = environment("LP_NUM_THREADS") === undefined
    ? { LP_NUM_THREADS: String(threads) }
    : {};
  return Array.from({ length: count }, () => ({ name: "", prefix: [], env }));
}

/** Words before a command that leave it one card; none where there is only one. */
export function hidingPrefix(
  cards: readonly Card[],
  card: Card,
  options: { root: boolean } = { root: Deno.uid() === 0 },
): string[] {
  const others = cards.filter(({ file }) => file !== card.file).map(({ file }) => file);
  if (others.length === 0) return [];
  // Who is not root may mount in a user namespace of its own, where it is.
  const user = options.root ? [] : ["--user", "--map-root-user"];
  return ["unshare", ...user, "--mount", "--propagation", "private", "sh", "-c", HIDE, "sh"]
    .concat(others, "--");
}

async function assertHides({ prefix }: Worker, count: number): Promise<void> {
  const [command, ...args] = prefix;
  let said: string;
  try {
    const { success, stderr } = await new Deno.Command(command!, {
      args: [...args, "true"],
      stdin: "null",
      stderr: "piped",
    }).output();
    if (success) return;
    said = new TextDecoder().decode(stderr).trim().split("\n").at(-1) ?? "";
  } catch (error) {
    said = error instanceof Error ? error.message : String(error);
  }
  throw new UserError(
    `This host has ${count} cards, and a worker can't hide the others from its job (${said}); expected ` +
      "root, a container with CAP_SYS_ADMIN, or a kernel that lets users make user namespaces. Without, " +
      "start one run a card under a scheduler that confines devices, or use --executor inline.",
  );
}

function environment(variable: string): string | undefined {
  const { state } = Deno.permissions.querySync({ name: "env", variable });
  return state === "granted" ? Deno.env.get(variable) || undefined : undefined;
}
