/**
 * Pre-trained checkpoints that can't be used.
 *
 * @module
 */

/** Something in a checkpoint's folder is wrong or not supported: its message is one line that names the file, the key and the value. */
export class PretrainedError extends Error {
  /** Name of the class. */
  override readonly name = "PretrainedError";
}
