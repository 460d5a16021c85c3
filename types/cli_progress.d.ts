/** Declarations for the parts of `cli-progress` that the project uses. */

/** How bars are drawn. */
export interface Options {
  /** A line with placeholders, or what makes it of a bar's numbers and payload. */
  format?:
    | string
    | ((
      options: unknown,
      params: { readonly value: number; readonly total: number },
      payload: unknown,
    ) => string);
  stream?: unknown;
  fps?: number;
  hideCursor?: boolean;
  linewrap?: boolean;
  clearOnComplete?: boolean;
  autopadding?: boolean;
  barsize?: number;
  etaBuffer?: number;
  gracefulExit?: boolean;
  emptyOnZero?: boolean;
  forceRedraw?: boolean;
}

/** One bar. */
export interface SingleBar {
  update(current: number, payload?: Record<string, unknown>): void;
  setTotal(total: number): void;
  stop(): void;
}

/** Several bars below each other. */
export class MultiBar {
  constructor(options: Options, preset?: unknown);
  create(total: number, start: number, payload?: Record<string, unknown>): SingleBar;
  remove(bar: SingleBar): boolean;
  /** Writes a line above the bars; it has to end in a newline. */
  log(data: string): void;
  /** Draws all bars. */
  update(): void;
  once(event: "redraw-pre", listener: () => void): this;
  stop(): void;
}

/** Ready-made looks. */
export const Presets: Record<"legacy" | "rect" | "shades_classic" | "shades_grey", unknown>;
