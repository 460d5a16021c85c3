/**
 * A reader of event files for tests, which shares nothing with the writer: checksums bit by bit, messages field by field.
 *
 * @module
 */

import { assertEquals } from "@std/assert";

/** A field of a message: a varint or the bytes of any other type. */
export interface Field {
  readonly field: number;
  readonly value: number | Uint8Array;
}

/** An event, as far as tests look at it. */
export interface ReadEvent {
  readonly wall_time: number;
  readonly step: number;
  readonly file_version?: string;
  readonly start: boolean;
  readonly scalars: Record<string, number>;
  readonly histograms: Record<string, ReadHistogram>;
}

/** A histogram: the numbers of `HistogramProto`. */
export interface ReadHistogram {
  readonly min: number;
  readonly max: number;
  readonly num: number;
  readonly sum: number;
  readonly sum_squares: number;
  readonly bucket_limit: number[];
  readonly bucket: number[];
}

/** CRC-32C by its definition: the remainder of a division by the polynomial 0x1EDC6F41, bits reversed. */
function slowCrc(bytes: Uint8Array): bigint {
  let remainder = 0xffffffffn;
  for (const byte of bytes) {
    remainder ^= BigInt(byte);
    for (let bit = 0; bit < 8; bit++) {
      remainder = remainder & 1n ? (remainder >> 1n) ^ 0x82f63b78n : remainder >> 1n;
    }
  }
  return remainder ^ 0xffffffffn;
}

function slowMask(crc: bigint): number {
  const turned = (crc >> 15n) | ((crc << 17n) & 0xffffffffn);
  return Number((turned + 0xa282ead8n) & 0xffffffffn);
}

/** The bytes of each record, whose checksums are asserted. A record that is being written is left out. */
export function readRecords(file: Uint8Array): Uint8Array[] {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const records: Uint8Array[] = [];
  for (let at = 0; at + 12 <= file.length;) {
    const length = Number(view.getBigUint64(at, true));
    if (at + 16 + length > file.length) break;
    assertEquals(view.getUint32(at + 8, true), slowMask(slowCrc(file.subarray(at, at + 8))));
    const bytes = file.subarray(at + 12, at + 12 + length);
    assertEquals(view.getUint32(at + 12 + length, true), slowMask(slowCrc(bytes)));
    records.push(bytes);
    at += 16 + length;
  }
  return records;
}

/** The fields of a message in the wire format of protocol buffers. */
export function readFields(bytes: Uint8Array): Field[] {
  const fields: Field[] = [];
  let at = 0;
  const varint = () => {
    let value = 0n;
    for (let shift = 0n;; shift += 7n) {
      const byte = BigInt(bytes[at++]!);
      value |= (byte & 127n) << shift;
      if (byte < 128n) return Number(value);
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    const type = tag & 7;
    if (type === 0) fields.push({ field: tag >> 3, value: varint() });
    else {
      const length = type === 1 ? 8 : type === 5 ? 4 : type === 2 ? varint() : NaN;
      fields.push({ field: tag >> 3, value: bytes.slice(at, at += length) });
    }
  }
  assertEquals(at, bytes.length);
  return fields;
}

const bytesOf = (fields: readonly Field[], field: number) =>
  fields.filter((f) => f.field === field).map(({ value }) => value as Uint8Array);
const double = (bytes: Uint8Array | undefined) =>
  bytes === undefined ? 0 : new DataView(bytes.buffer).getFloat64(0, true);
const text = (bytes: Uint8Array | undefined) =>
  bytes === undefined ? undefined : new TextDecoder().decode(bytes);
const packed = (bytes: Uint8Array | undefined) =>
  bytes === undefined ? [] : [...new Float64Array(bytes.slice().buffer)];

/** The events of a file. */
export function readEvents(file: Uint8Array): ReadEvent[] {
  return readRecords(file).map((record) => {
    const fields = readFields(record);
    const scalars: Record<string, number> = {};
    const histograms: Record<string, ReadHistogram> = {};
    for (const summary of bytesOf(fields, 5)) {
      for (const each of bytesOf(readFields(summary), 1)) {
        const value = readFields(each);
        const tag = text(bytesOf(value, 1)[0])!;
        const [float] = bytesOf(value, 2);
        if (float) scalars[tag] = new DataView(float.buffer).getFloat32(0, true);
        const [histogram] = bytesOf(value, 5);
        if (!histogram) continue;
        const h = readFields(histogram);
        const [min, max, num, sum, sum_squares] = [1, 2, 3, 4, 5].map((n) =>
          double(bytesOf(h, n)[0])
        ) as [number, number, number, number, number];
        const [bucket_limit, bucket] = [packed(bytesOf(h, 6)[0]), packed(bytesOf(h, 7)[0])];
        histograms[tag] = { min, max, num, sum, sum_squares, bucket_limit, bucket };
      }
    }
    const version = text(bytesOf(fields, 3)[0]);
    return {
      wall_time: double(bytesOf(fields, 1)[0]),
      step: Number(fields.find(({ field }) => field === 2)?.value ?? 0),
      ...(version !== undefined && { file_version: version }),
      start: bytesOf(fields, 7).some((log) =>
        readFields(log).some(({ field, value }) => field === 1 && value === 1)
      ),
      scalars,
      histograms,
    };
  });
}

/** The events of the only event file in a folder; none where it is not there yet. */
export async function eventsIn(folder: string): Promise<ReadEvent[]> {
  try {
    const names = (await Array.fromAsync(Deno.readDir(folder), ({ name }) => name)).sort();
    if (names.length === 0) return [];
    assertEquals(names.length, 1, names.join());
    return readEvents(await Deno.readFile(`${folder}/${names[0]}`));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}
