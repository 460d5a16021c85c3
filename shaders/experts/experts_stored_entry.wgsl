// An assignment's term of the gradient of a stored row: dp · x_t of its expert's u, a · dy_t of its v. Part of segment_sum.wgsl.
// entries f32 [T · per, 4] (a, dp, ds, p), of which component COMPONENT counts; x [T, ·] (stride ldx), the columns from x_start on; in vec4s.

fn entry(at: u32, segment: u32, column: u32) -> vec4f {
  return load_entries(at)[{{ COMPONENT }}] * load_x(at / params.per * params.ldx + params.x_start + column);
}
