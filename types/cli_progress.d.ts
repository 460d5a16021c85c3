/** Declarations for the parts of `cli-progress` that the project uses. */

/** How bars are drawn. */
export interface Options {
  format?: string;
  stream?: unknown;
  fps?: number;
  hideCursor?: boolean;
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
  update(): void;
  stop(): void;
}

/** Ready-made looks. */
export const Presets: Record<"legacy" | "rect" | "shades_classic" | "shades_grey", unknown>;
