/**
 * TensorBoard's message `Event` in the wire format of protocol buffers, as far as scalars and histograms need it. The few fields are written
 * by hand: a library would be larger than they are.
 *
 * Field numbers are those of `event.proto`, `summary.proto` and `histogram.proto`.
 *
 * @module
 */

/** The version that an event file begins with. */
export const FILE_VERSION = "brain.Event:2";

/** Counts of numbers by size. */
export interface Histogram {
  /** Upper edges, ascending; the last one may be infinite. */
  readonly edges: readonly number[];
  /** Numbers above the edge before and up to this one. */
  readonly counts: readonly number[];
}

/** One event. */
export interface TensorboardEvent {
  /** Seconds since 1970. */
  readonly wall_time: number;
  readonly step?: number;
  /** Of the first event of a file. */
  readonly file_version?: string;
  /** Says that earlier events from this step on are void. */
  readonly start?: boolean;
  readonly scalars?: Readonly<Record<string, number>>;
  readonly histograms?: Readonly<Record<string, Histogram>>;
}

/** Numbers of the wire format's types. */
const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

/** A message that grows field by field. */
class Message {
  readonly #bytes: number[] = [];

  varint(field: number, value: number): this {
    this.#tag(field, VARINT);
    return this.#varint(value);
  }

  double(field: number, value: number): this {
    this.#tag(field, FIXED64);
    this.#bytes.push(...doubles([value]));
    return this;
  }

  float(field: number, value: number): this {
    this.#tag(field, FIXED32);
    this.#bytes.push(...new Uint8Array(Float32Array.of(value).buffer));
    return this;
  }

  bytes(field: number, value: Uint8Array): this {
    this.#tag(field, BYTES).#varint(value.length);
    for (const byte of value) this.#bytes.push(byte);
    return this;
  }

  text(field: number, value: string): this {
    return this.bytes(field, new TextEncoder().encode(value));
  }

  message(field: number, value: Message): this {
    return this.bytes(field, value.done());
  }

  done(): Uint8Array {
    return Uint8Array.from(this.#bytes);
  }

  #tag(field: number, type: number): this {
    return this.#varint(field * 8 + type);
  }

  /** A whole number up to 2^53: seven bits a byte, the lowest first. */
  #varint(value: number): this {
    for (; value > 127; value = Math.floor(value / 128)) this.#bytes.push(value % 128 | 128);
    this.#bytes.push(value);
    return this;
  }
}

/** Little-endian bytes of float64. */
function doubles(values: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(values.length * 8);
  const view = new DataView(bytes.buffer);
  values.forEach((value, i) => view.setFloat64(i * 8, value, true));
  return bytes;
}

/** The bytes of an event. */
export function encodeEvent(event: TensorboardEvent): Uint8Array {
  const { wall_time, step = 0, file_version, start, scalars = {}, histograms = {} } = event;
  const message = new Message().double(1, wall_time);
  if (step !== 0) message.varint(2, step);
  if (file_version !== undefined) message.text(3, file_version);
  const summary = new Message();
  for (const [tag, value] of Object.entries(scalars)) {
    summary.message(1, new Message().text(1, tag).float(2, value));
  }
  for (const [tag, histogram] of Object.entries(histograms)) {
    summary.message(1, new Message().text(1, tag).message(5, histogramProto(histogram)));
  }
  const values = summary.done();
  if (values.length > 0) message.bytes(5, values);
  if (start) message.message(7, new Message().varint(1, 1));
  return message.done();
}

/**
 * The message of a histogram. The least and the greatest number are the edges of the buckets that hold them, and sums are those of the
 * upper edges: the numbers themselves are not known.
 */
function histogramProto({ edges, counts }: Histogram): Message {
  const least = counts.findIndex((count) => count > 0);
  const most = counts.findLastIndex((count) => count > 0);
  const finite = edges.findLast(Number.isFinite) ?? 0;
  /** An upper edge; beyond the last one, twice that. */
  const edge = (i: number) => i < 0 ? 0 : Number.isFinite(edges[i]) ? edges[i]! : 2 * finite;
  const sum = (of: (edge: number) => number) =>
    counts.reduce((total, count, i) => total + count * of(edge(i)), 0);
  return new Message()
    .double(1, edge(least - 1))
    .double(2, edge(most))
    .double(3, sum(() => 1))
    .double(4, sum((x) => x))
    .double(5, sum((x) => x * x))
    .bytes(6, doubles(edges.map((x) => Number.isFinite(x) ? x : Number.MAX_VALUE)))
    .bytes(7, doubles(counts));
}
