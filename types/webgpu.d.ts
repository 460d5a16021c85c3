/** The parts of `npm:webgpu` (Dawn) that the project uses; its own declarations clash with Deno's WebGPU types. */
export function create(flags: string[]): GPU;
export const globals: Record<string, unknown>;
