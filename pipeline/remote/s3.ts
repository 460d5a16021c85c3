/**
 * A remote store in a bucket of S3, or of a server that speaks its protocol.
 *
 * @module
 */

import { createHash, type Hash } from "node:crypto";
import { AwsV4Signer } from "aws4fetch";
import { EXIT } from "../errors.ts";
import { sha256 } from "../graph/key.ts";
import type { RemoteAddress } from "./address.ts";
import type { Backend, Sink, Source, TransferOptions } from "./backend.ts";
import type { AwsSettings } from "./credentials.ts";
import { RemoteError, TransientError } from "./error.ts";
import {
  drop,
  exchange,
  type Patience,
  readHead,
  refuseTransient,
  type Watch,
} from "./exchange.ts";
import { rangeOf, readPart, receive } from "./http_transfer.ts";

/** A larger file is sent in parts of this size. A part is in memory, and is what a broken connection costs. */
const PART_BYTES = 8 << 20;
/** S3 takes no more parts of one object; a larger object has larger parts. */
const MOST_PARTS = 10_000;

/** The permission that each kind of request needs. */
const PERMISSIONS: Readonly<Record<string, string>> = {
  GET: "s3:GetObject, and s3:ListBucket to be told what is not there",
  HEAD: "s3:GetObject, and s3:ListBucket to be told what is not there",
  PUT: "s3:PutObject",
  POST: "s3:PutObject",
  DELETE: "s3:AbortMultipartUpload",
};

/** Options of {@linkcode S3Backend}. */
export interface S3Options {
  readonly patience: Patience;
  /** Asked once, before the first request. */
  settings(): Promise<AwsSettings>;
  /** Bytes of a part; 8 MiB unless given. */
  readonly partBytes?: number;
}

interface S3Request {
  readonly method: "GET" | "HEAD" | "PUT" | "POST" | "DELETE";
  readonly path: string;
  readonly query?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array<ArrayBuffer>;
}

/** Objects of a bucket below a prefix. */
export class S3Backend implements Backend {
  readonly name: string;
  readonly #bucket: string;
  readonly #prefix: string;
  readonly #options: S3Options;
  #settings: Promise<AwsSettings> | undefined;

  constructor(address: Extract<RemoteAddress, { kind: "s3" }>, options: S3Options) {
    this.name = address.name;
    this.#bucket = address.bucket;
    this.#prefix = address.prefix === "" ? "" : `${address.prefix}/`;
    this.#options = options;
  }

  async size(path: string, options: TransferOptions): Promise<number | undefined> {
    return await this.#request({ method: "HEAD", path }, options, async (response) => {
      await drop(response);
      if (response.status === 404) return undefined;
      return Number(response.headers.get("content-length") ?? NaN);
    });
  }

  async read(path: string, sink: Sink, options: TransferOptions): Promise<boolean> {
    const make = (): S3Request => ({ method: "GET", path, headers: rangeOf(sink) });
    return await this.#request(make, options, async (response, watch) => {
      if (response.status === 404) return false;
      await receive(response, sink, watch);
      return true;
    });
  }

  async write(path: string, source: Source, options: TransferOptions): Promise<void> {
    const part = this.#options.partBytes ?? PART_BYTES;
    if ("bytes" in source || source.size <= part) {
      const body = "bytes" in source
        ? source.bytes
        : await readPart(source.path, { from: 0, size: source.size });
      await this.#request({ method: "PUT", path, body }, options, drop);
      options.onBytes?.(body.length);
      return;
    }
    await this.#writeParts(path, source, options);
  }

  async #writeParts(
    path: string,
    source: Extract<Source, { path: string }>,
    options: TransferOptions,
  ): Promise<void> {
    const { size } = source;
    const part = Math.max(this.#options.partBytes ?? PART_BYTES, Math.ceil(size / MOST_PARTS));
    const started = await this.#request(
      { method: "POST", path, query: "uploads=" },
      options,
      (response) => readHead(response),
    );
    const id = /<UploadId>([^<]+)<\/UploadId>/.exec(started)?.[1];
    if (id === undefined) throw this.#odd(path, "began no upload in parts");
    const upload = `uploadId=${encodeURIComponent(id)}`;
    try {
      const tags: string[] = [];
      for (let from = 0; from < size; from += part) {
        const body = await readPart(source.path, { from, size: Math.min(part, size - from) });
        const query = `partNumber=${tags.length + 1}&${upload}`;
        const tag = await this.#request(
          { method: "PUT", path, query, body },
          options,
          async (response) => {
            await drop(response);
            return response.headers.get("etag");
          },
        );
        if (tag === null) throw this.#odd(path, "gave a part no ETag");
        tags.push(tag);
        options.onBytes?.(body.length);
      }
      await this.#complete(path, source, { upload, tags, options });
    } catch (error) {
      // Parts that nobody puts together cost the bucket's owner.
      const signal = AbortSignal.timeout(5000);
      await this.#request({ method: "DELETE", path, query: upload }, { signal }, drop)
        .catch(() => {});
      throw error;
    }
  }

  async #complete(
    path: string,
    source: Extract<Source, { path: string }>,
    { upload, tags, options }: {
      upload: string;
      tags: readonly string[];
      options: TransferOptions;
    },
  ): Promise<void> {
    const parts = tags.map((tag, i) =>
      `<Part><PartNumber>${i + 1}</PartNumber><ETag>${tag}</ETag></Part>`
    );
    const body = new TextEncoder().encode(
      `<CompleteMultipartUpload>${parts.join("")}</CompleteMultipartUpload>`,
    );
    try {
      await this.#request(
        { method: "POST", path, query: upload, body },
        options,
        async (response) => {
          // A failure may come under the status of success, as S3 answers before it has put the parts together.
          const code = codeOf(await readHead(response));
          if (code !== undefined) throw new TransientError(`answered with ${code}`);
        },
      );
    } catch (error) {
      // An attempt whose answer was lost may have put the object together; then the upload is gone for the next one.
      const unclear = error instanceof RemoteError && error.fault === "unavailable";
      if (!unclear || !await this.#holds(path, source, options).catch(() => false)) throw error;
    }
  }

  /** Whether an object has these bytes. They are read, as an object of that size may be an older, damaged one. */
  async #holds(
    path: string,
    { size, sha256 }: Extract<Source, { path: string }>,
    { signal }: TransferOptions,
  ): Promise<boolean> {
    if (await this.size(path, { signal }) !== size) return false;
    const sink = new DigestSink();
    return await this.read(path, sink, { signal }) && sink.digest() === sha256;
  }

  /** Sends a signed request until it is answered with success, or with 404 for a key that isn't there. */
  async #request<T>(
    given: S3Request | (() => S3Request),
    { signal }: TransferOptions,
    use: (response: Response, watch: Watch) => Promise<T>,
  ): Promise<T> {
    this.#settings ??= this.#options.settings();
    const settings = await this.#settings;
    const make = typeof given === "function" ? given : () => given;
    const { method, path, body } = make();
    return await exchange(async (watch) => {
      const request = make();
      let response = await this.#send(request, settings, watch.signal);
      await refuseTransient(response);
      if (method === "HEAD" && !response.ok && response.status !== 404) {
        // An answer to HEAD has no body, which would tell the reason.
        response = await this.#send({ ...request, method: "GET" }, settings, watch.signal);
      }
      // The sink of a range knows whether it lacks something.
      const ended = response.status === 416 && request.headers?.["range"] !== undefined;
      if (!response.ok && !ended) {
        const code = codeOf(await readHead(response));
        const missing = response.status === 404 && code !== "NoSuchBucket";
        if (!missing || method === "PUT" || method === "POST") {
          throw this.#refusal({ method, path }, response, code);
        }
      }
      return await use(response, watch);
    }, {
      name: this.name,
      doing: `${method} ${path}`,
      patience: this.#options.patience,
      signal,
      sending: body?.length ?? 0,
    });
  }

  async #send(
    { method, path, query = "", headers = {}, body }: S3Request,
    settings: AwsSettings,
    signal: AbortSignal,
  ): Promise<Response> {
    const { accessKeyId, secretAccessKey, sessionToken, region, endpoint } = settings;
    const url = `${endpoint}/${this.#bucket}/${this.#prefix}${path}${query && `?${query}`}`;
    const signer = new AwsV4Signer({
      method,
      url,
      // The server compares the bytes that come with this digest.
      headers: { ...headers, "x-amz-content-sha256": sha256(body ?? "") },
      accessKeyId,
      secretAccessKey,
      ...sessionToken === undefined ? {} : { sessionToken },
      region,
      service: "s3",
    });
    const signed = await signer.sign();
    return await fetch(signed.url, {
      method,
      headers: signed.headers,
      body: body ?? null,
      // Another host needs another signature.
      redirect: "manual",
      signal,
    });
  }

  /** One line for a refusal: which bucket or key, and what would be needed. */
  #refusal(
    { method, path }: Pick<S3Request, "method" | "path">,
    { status, headers }: Response,
    code: string | undefined,
  ): RemoteError {
    const where = `${method} ${path}`;
    const said = code === undefined ? `status ${status}` : `${code}, status ${status}`;
    const denied = (problem: string) =>
      new RemoteError(`${this.name}: ${problem}.`, { fault: "denied", exitCode: EXIT.failed });
    const region = headers.get("x-amz-bucket-region");
    if (code === "NoSuchBucket" || (status === 404 && code === undefined)) {
      return new RemoteError(`${this.name}: there is no bucket ${this.#bucket} (${said}).`, {
        fault: "unavailable",
      });
    }
    if (code === "NoSuchUpload") {
      return new RemoteError(`${this.name}: the upload of ${path} is no longer known (${said}).`, {
        fault: "unavailable",
      });
    }
    if (status >= 300 && status < 400 || code === "AuthorizationHeaderMalformed") {
      const hint = region === null ? "" : `; it is in ${region}`;
      return denied(`bucket ${this.#bucket} is in another region${hint}, set AWS_REGION (${said})`);
    }
    switch (code) {
      case "InvalidAccessKeyId":
        return denied(`the server does not know the access key (${said})`);
      case "SignatureDoesNotMatch":
        return denied(`the secret key does not belong to the access key (${said})`);
      case "ExpiredToken":
      case "InvalidToken":
        return denied(`the session token is no longer good (${said})`);
      case "RequestTimeTooSkewed":
        return denied(`this machine's clock and the server's differ too much (${said})`);
    }
    if (status === 401 || status === 403) {
      return denied(
        `permission was denied for ${where} in bucket ${this.#bucket}; ` +
          `it needs ${PERMISSIONS[method]} (${said})`,
      );
    }
    return denied(`${where} was refused (${said})`);
  }

  #odd(path: string, problem: string): RemoteError {
    return new RemoteError(`${this.name}: the server ${problem} of ${path}.`, {
      fault: "unavailable",
    });
  }
}

/** The digest of bytes that are not kept. */
class DigestSink implements Sink {
  #hash: Hash = createHash("sha256");
  length = 0;

  write(chunk: Uint8Array): Promise<void> {
    this.#hash.update(chunk);
    this.length += chunk.length;
    return Promise.resolve();
  }

  resume(): void {}

  reset(): Promise<void> {
    this.#hash = createHash("sha256");
    this.length = 0;
    return Promise.resolve();
  }

  digest(): string {
    return this.#hash.digest("hex");
  }
}

/** The code of an answer of S3 that tells an error. */
function codeOf(text: string): string | undefined {
  return /<Code>([A-Za-z0-9]+)<\/Code>/.exec(text)?.[1];
}
