/**
 * Shell text on the device files of NVIDIA's cards: it finds those that may be opened, and hides some from a command.
 *
 * Text for `sh`, because a rank of a training looks at the cards of its own host, and Deno opens nothing below `/dev` without `--allow-all`.
 *
 * @module
 */

/**
 * A function of the shell: `card_files FOLDER` prints the cards that can be opened, a line each. Cards are device files of NVIDIA's number (195 is
 * 0xc3), not a `/dev/null` that another program put there.
 */
export const CARD_FILES = `
card_files() {
  for file in "$1"/nvidia[0-9]*; do
    [ -c "$file" ] && [ "$(stat -L -c %t "$file")" != c3 ] && continue
    ( : < "$file" ) 2> /dev/null && echo "$file"
  done
  true
}`;

/** Mounts `/dev/null` over each file up to `--`, then becomes the command behind it. To be run in a mount namespace; without quotes. */
export const HIDE =
  'while [ "$1" != -- ]; do mount --bind /dev/null "$1" || exit 125; shift; done; shift; exec "$@"';
