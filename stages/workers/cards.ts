/**
 * The NVIDIA cards that this process may open, by what the kernel's driver says of them. No CUDA and no tool is needed.
 *
 * @module
 */

import { UserError } from "../../pipeline/errors.ts";
import { CARD_FILES } from "./hide_cards.ts";

/** One card. */
export interface Card {
  /** Place among the cards that this process may open, by their addresses on the bus: `nvidia-smi`'s order. */
  readonly index: number;
  /** Its device file: `/dev/nvidia0`. */
  readonly file: string;
  /** `GPU-…`, as `nvidia-smi -L` says it; absent where the driver does not tell. */
  readonly uuid?: string;
  /** `NVIDIA H200`. */
  readonly model?: string;
}

/** Folders that tell of cards. */
export interface CardPlaces {
  /** Device files. */
  readonly dev: string;
  /** The driver's list: a folder a card, named by its address on the bus. */
  readonly driver: string;
}

const PLACES: CardPlaces = { dev: "/dev", driver: "/proc/driver/nvidia/gpus" };

/** Lists device files that can be opened, then what the driver says of each card. A program of its own, because Deno opens neither folder without `--allow-all`. */
const LIST = `${CARD_FILES}
card_files "$1" | sed 's/^/File: /'
for file in "$2"/*/information; do
  [ -r "$file" ] && echo "Bus: $(basename "$(dirname "$file")")" && cat "$file"
done
true`;

/**
 * The cards that this process may open; none on other systems than Linux. Needs `--allow-run`.
 *
 * @throws UserError when there is no shell to ask.
 */
export async function readCards(places: CardPlaces = PLACES): Promise<Card[]> {
  if (Deno.build.os !== "linux") return [];
  const lines = (await listCards(places)).split("\n")
    .map((line) => /^([\w ]+):\s*(.*?)\s*$/.exec(line))
    .filter((match) => match !== null);
  const facts: Record<string, string>[] = [];
  const files: string[] = [];
  for (const [, name, value] of lines) {
    if (name === "File") files.push(value!);
    else if (name === "Bus") facts.push({ Bus: value! });
    else Object.assign(facts.at(-1) ?? {}, { [name!]: value! });
  }
  const cards = files.map((file) => {
    const minor = /\d+$/.exec(file)![0];
    const fact = facts.find((fact) => fact["Device Minor"] === minor) ?? {};
    const { "GPU UUID": uuid, Model: model, Bus: bus } = fact;
    const order = bus ?? `~${minor.padStart(4, "0")}`;
    return { file, order, ...uuid !== undefined && { uuid }, ...model !== undefined && { model } };
  });
  cards.sort((a, b) => a.order < b.order ? -1 : 1);
  return cards.map(({ order: _, ...card }, index) => ({ index, ...card }));
}

async function listCards({ dev, driver }: CardPlaces): Promise<string> {
  try {
    const { stdout } = await new Deno.Command("sh", {
      args: ["-c", LIST, "sh", dev, driver],
      stdin: "null",
      stderr: "null",
    }).output();
    return new TextDecoder().decode(stdout);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new UserError(`The cards of this host can't be listed with sh: ${why}`, { cause: error });
  }
}

/** Describes a card in a few words. */
export function describeCard({ file, uuid, model }: Card): string {
  return [model ?? "NVIDIA", uuid ?? file].join(" ");
}

/**
 * The cards of a list: indices, or UUIDs of which the beginning is enough, between commas.
 *
 * @param source Who gave the list, for the error: `--devices`.
 * @throws UserError when an entry names no card, several, or one that another entry names.
 */
export function selectCards(cards: readonly Card[], list: string, source: string): Card[] {
  const chosen: Card[] = [];
  for (const entry of list.split(",").map((word) => word.trim())) {
    const found = /^\d+$/.test(entry)
      ? cards.filter(({ index }) => index === Number(entry))
      : cards.filter(({ uuid }) => entry !== "" && uuid?.startsWith(entry));
    const [card] = found;
    if (card === undefined || found.length > 1 || chosen.includes(card)) {
      const why = card === undefined
        ? "no card"
        : found.length > 1
        ? "several cards"
        : "a card that is named already";
      const known = cards.map((card) => `${card.index} (${describeCard(card)})`).join(", ");
      throw new UserError(
        `${source} is "${list}", and "${entry}" names ${why}; expected indices or UUIDs of ${known}.`,
      );
    }
    chosen.push(card);
  }
  return chosen;
}
