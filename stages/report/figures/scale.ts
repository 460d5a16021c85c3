/**
 * From values to pixels of a panel and back, for what is placed by its size on the page: labels.
 *
 * @module
 */

/** A range of values and the pixels that show it. */
export interface Scale {
  readonly domain: readonly [number, number];
  readonly logarithmic: boolean;
  pixel(value: number): number;
  value(pixel: number): number;
}

/**
 * A scale of a panel.
 *
 * @param domain Its ends.
 * @param options `length`: pixels. `down`: whether pixels count from the larger end, as heights do.
 */
export function scale(
  domain: readonly [number, number],
  { length, logarithmic, down = false }: { length: number; logarithmic: boolean; down?: boolean },
): Scale {
  const [to, from] = logarithmic ? [Math.log, Math.exp] : [Number, Number];
  const [low, high] = [to(domain[0]), to(domain[1])];
  const flip = (pixel: number) => down ? length - pixel : pixel;
  return {
    domain,
    logarithmic,
    pixel: (value) => flip(length * (to(value) - low) / (high - low)),
    value: (pixel) => from(low + (high - low) * flip(pixel) / length),
  };
}
