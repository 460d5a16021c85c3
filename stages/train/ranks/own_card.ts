/**
 * Leaves a rank one card of its host.
 *
 * WebGPU takes the first adapter that Vulkan lists, and Vulkan lists every card whose device file can be opened. So a rank runs in a mount namespace
 * where the files of the other cards are `/dev/null`. Which cards there are is asked where the rank is, which may be another host.
 *
 * @module
 */

import { CARD_FILES, HIDE } from "../../workers/hide_cards.ts";

const SCRIPT = `${CARD_FILES}
dev=$1; shift
cards=$(card_files "$dev")
count=$(printf '%s' "$cards" | grep -c .)
if [ "$count" -le 1 ] || [ "\${OMPI_COMM_WORLD_LOCAL_SIZE:-1}" -le 1 ]; then exec "$@"; fi
number=0; others=
for file in $cards; do
  [ "$number" -eq $((OMPI_COMM_WORLD_LOCAL_RANK % count)) ] || others="$others $file"
  number=$((number + 1))
done
user=
[ "$(id -u)" = 0 ] || user="--user --map-root-user"
exec unshare $user --mount --propagation private sh -c '${HIDE}' sh $others -- "$@"`;

/**
 * Words before the command of a rank. Of several ranks on a host with several cards each gets the next card, and more ranks than cards share them in turn;
 * for that the rank must be root, or may make user namespaces.
 *
 * @param options.dev Folder of the device files.
 */
export function ownCardPrefix(options: { readonly dev?: string } = {}): string[] {
  return ["sh", "-c", SCRIPT, "sh", options.dev ?? "/dev"];
}
