/**
 * Errors that a client is told, in the form that clients of OpenAI's interface read.
 *
 * @module
 */

/** Options of an {@linkcode ApiError}. */
interface ApiErrorOptions {
  readonly status: number;
  /** A word for programs: `context_length_exceeded`. */
  readonly code?: string;
  /** Key of the request that is wrong. */
  readonly param?: string;
  /** Further headers of the response. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** A refusal, or a failure, of a request. */
export class ApiError extends Error {
  /** Name of the class. */
  override readonly name = "ApiError";
  /** Status of the response. */
  readonly status: number;
  readonly #options: ApiErrorOptions;

  /** @param message One sentence for a person. */
  constructor(message: string, options: ApiErrorOptions) {
    super(message);
    this.status = options.status;
    this.#options = options;
  }

  /** The body: `{ error: { message, type, param, code } }`. */
  get body(): Readonly<Record<"error", Readonly<Record<string, string | null>>>> {
    const { code = null, param = null } = this.#options;
    return { error: { message: this.message, type: typeOf(this.status), param, code } };
  }

  /** The response of the error. */
  response(): Response {
    return Response.json(this.body, {
      status: this.status,
      headers: { "cache-control": "no-store", ...this.#options.headers },
    });
  }
}

/** The kind of error that a status stands for. */
function typeOf(status: number): string {
  if (status === 429) return "rate_limit_exceeded";
  return status < 500 ? "invalid_request_error" : "server_error";
}
