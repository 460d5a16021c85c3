/** Declarations for the parts of `@std/streams` that the project uses. */
export class TextLineStream extends TransformStream<string, string> {
  constructor(options?: { allowCR?: boolean });
}
