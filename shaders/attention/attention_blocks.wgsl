// The common part of the blocked attention kernels: products of blocks through workgroup memory, as in gemm_tiled.wgsl.
//
// 16 · DOWN invocations own OWN = 4 · DOWN · OWN_QUADS rows of one side (queries or keys) and meet the rows of the other side in blocks of
// OTHER = 64 · OTHER_QUADS. Invocation (x, y) has own rows 4 (y + DOWN i) to + 3 and columns 4 (x + 16 c) to + 3 of every product: scores
// (columns are rows of the other side) and sums over scores (columns are a width). 32 neighbours are 8 columns by 4 rows.
//
// Workgroup memory is pages of 16 rows of 64 numbers. A row holds the numbers of one k, whichever way the operand lies in memory; its vec4 c is at
// c ^ 2 (k / 4 % 4), so that the invocations that turn a block round write to different banks. A turn of a product takes 16 k; the next turn's
// numbers are under way from memory meanwhile, as they came (Raw: halves as bits), and go to the other half of the buffer after it: one barrier a turn. A
// loop's round is two turns, so that the compiler knows which half it reads.

alias Raw = {{ RAW }};
const QK4 = NOPE4 + ROPE4;
const KV4 = NOPE4 + V4;
const LANES = 16u * DOWN;
const OWN = 4u * DOWN * OWN_QUADS;
const OTHER = 64u * OTHER_QUADS;

var<workgroup> pages: array<array<array<vec4f, 16>, 16>, PAGES>;

fn widen(v: Raw) -> vec4f {
{% if RAW == "vec2u" %}
  return vec4f(unpack2x16float(v.x), unpack2x16float(v.y));
{% else %}
  return v;
{% endif %}
}

// vec4 d of a row of a head, as it came; zero beyond its width.
fn query(token: u32, head: u32, d: u32) -> Raw {
{% if (NOPE4 + ROPE4) % 16 %}
  if (d >= QK4) { return Raw(); }
{% endif %}
  return q[(token * params.heads + head) * QK4 + d];
}
fn key(token: u32, head: u32, d: u32) -> Raw {
{% if ROPE4 > 0 %}
  if (d < NOPE4) { return kv[(token * params.heads + head) * KV4 + d]; }
{% endif %}
{% if (NOPE4 + ROPE4) % 16 %}
  if (d >= QK4) { return Raw(); }
{% endif %}
{% if ROPE4 > 0 %}
  return kr[token * ROPE4 + d - NOPE4];
{% else %}
  return kv[(token * params.heads + head) * KV4 + d];
{% endif %}
}
fn value(token: u32, head: u32, d: u32) -> Raw {
{% if V4 % 16 %}
  if (d >= V4) { return Raw(); }
{% endif %}
  return kv[(token * params.heads + head) * KV4 + NOPE4 + d];
}

{# Turns of a sum over a width, an even number: numbers beyond the width are zeros. #}
{% macro turns(width4) %}{{ (width4 + 7) // 8 * 2 }}u{% endmacro %}
{# The page of the buffer that is read in turn `turn + u`; `ahead`, of the one that is written meanwhile. #}
{% macro half(page, pages, u, ahead) %}{{ page + (u + ahead) % 2 * pages }}u{% endmacro %}
{# Where own quad i lies: the page and the vec4 in a row of the fourth k/4 % 4. #}
{% macro own_page(i) %}{{ DOWN * i // 16 }}u{% endmacro %}
{% macro own_at(i, fourth) %}y{{ fourth }}{% if DOWN * i % 16 %} + {{ DOWN * i % 16 }}u{% endif %}{% endmacro %}
{# Starts to load 16 numbers, from vec4 4 · turn on, of the own rows and of the other rows of the block at j. #}
{% macro fetch_rows(own, other, j, turn) %}
{% for i in range(OWN_QUADS) %}
      fetched{{ i }} = {{ own }}(first + min(top + lane / 4u + {{ 4 * DOWN * i }}u, params.length - 1u), head, 4u * ({{ turn }}) + lane % 4u);
{% endfor %}
{% for i in range(64 * OTHER_QUADS // (4 * DOWN)) %}
      fetched{{ OWN_QUADS + i }} = {{ other }}(first + min({{ j }} + lane / 4u + {{ 4 * DOWN * i }}u, params.length - 1u), head, 4u * ({{ turn }}) + lane % 4u);
{% endfor %}
{% endmacro %}
{# Puts the rows that fetch_rows loaded into pages from `page` on, transposed. #}
{% macro put_rows(page) %}
{% for i in range(OWN_QUADS) %}
      {
        let v = widen(fetched{{ i }});
        let row = lane / 4u + {{ 4 * DOWN * i }}u;
{% for n in range(4) %}
        pages[{{ page }} + row / 64u][lane % 4u * 4u + {{ n }}u][(row % 64u / 4u) ^ (lane % 4u * 2u)][row % 4u] = v[{{ n }}];
{% endfor %}
      }
{% endfor %}
{% for i in range(64 * OTHER_QUADS // (4 * DOWN)) %}
      {
        let v = widen(fetched{{ OWN_QUADS + i }});
        let row = lane / 4u + {{ 4 * DOWN * i }}u;
{% for n in range(4) %}
        pages[{{ page }} + OWN_PAGES + row / 64u][lane % 4u * 4u + {{ n }}u][(row % 64u / 4u) ^ (lane % 4u * 2u)][row % 4u] = v[{{ n }}];
{% endfor %}
      }
{% endfor %}
{% endmacro %}
{# Starts to load rows 16 · turn to + 15 of the block at j, `columns` pages wide. #}
{% macro fetch_block(other, columns, j, turn) %}
{% for c in range(columns) %}{% for i in range(16 // DOWN) %}
      fetched{{ c * (16 // DOWN) + i }} = {{ other }}(first + min({{ j }} + 16u * ({{ turn }}) + y + {{ DOWN * i }}u, params.length - 1u), head, x + {{ 16 * c }}u);
{% endfor %}{% endfor %}
{% endmacro %}
{# Puts what fetch_block loaded into pages from `page` on. #}
{% macro put_block(columns, page) %}
{% for c in range(columns) %}{% for i in range(16 // DOWN) %}
      pages[{{ page }} + {{ c }}u][y + {{ DOWN * i }}u][x ^ ((y + {{ DOWN * i }}u) / 4u * 2u)] = widen(fetched{{ c * (16 // DOWN) + i }});
{% endfor %}{% endfor %}
{% endmacro %}
{# A turn: sum r_c += own[k][r] · other[k][c] over 16 k. #}
{% macro multiply(sum, columns, own, other) %}
{% for k in range(16) %}
      {
{% for i in range(OWN_QUADS) %}
        let a{{ i }} = pages[{{ own }} + {{ own_page(i) }}][{{ k }}][{{ own_at(i, k // 4) }}];
{% endfor %}
{% for c in range(columns) %}
        let b{{ c }} = pages[{{ other }} + {{ c }}u][{{ k }}][x{{ k // 4 }}];
{% endfor %}
{% for r in range(4 * OWN_QUADS) %}{% for c in range(columns) %}
        {{ sum }}{{ r }}_{{ c }} = fma(vec4f(a{{ r // 4 }}[{{ r % 4 }}]), b{{ c }}, {{ sum }}{{ r }}_{{ c }});
{% endfor %}{% endfor %}
      }
{% endfor %}
{% endmacro %}
{# All turns of a product of own and other rows over a width: the first turn's numbers are fetched, and `after` fetches what comes next. #}
{% macro multiply_rows(sum, own, other, width4, page, after) %}
{% for r in range(4 * OWN_QUADS) %}{% for c in range(OTHER_QUADS) %}
    var {{ sum }}{{ r }}_{{ c }} = vec4f();
{% endfor %}{% endfor %}
{{ put_rows(page ~ "u") }}
    workgroupBarrier();
    for (var turn = 0u; turn < {{ turns(width4) }}; turn += 2u) {
{% for u in range(2) %}
      let more{{ u }} = turn + {{ u + 1 }}u < {{ turns(width4) }};
      if (more{{ u }}) {
{{ fetch_rows(own, other, "j", "turn + " ~ (u + 1) ~ "u") }}
      } else {
{{ after }}
      }
{{ multiply(sum, OTHER_QUADS, half(page, OWN_PAGES + OTHER_QUADS, u, 0), half(page + OWN_PAGES, OWN_PAGES + OTHER_QUADS, u, 0)) }}
      if (more{{ u }}) {
{{ put_rows(half(page, OWN_PAGES + OTHER_QUADS, u, 1)) }}
      }
      workgroupBarrier();
{% endfor %}
    }
{% endmacro %}
{# All turns of a sum over the other rows of the scores in the pages from 0 on times these rows, likewise. #}
{% macro multiply_scores(sum, other, columns, page, after) %}
{{ put_block(columns, page ~ "u") }}
    workgroupBarrier();
    for (var turn = 0u; turn < OTHER / 16u; turn += 2u) {
{% for u in range(2) %}
      let more{{ u }} = turn + {{ u + 1 }}u < OTHER / 16u;
      if (more{{ u }}) {
{{ fetch_block(other, columns, "j", "turn + " ~ (u + 1) ~ "u") }}
      } else {
{{ after }}
      }
{{ multiply(sum, columns, "(turn + " ~ u ~ "u) * OWN_PAGES", half(page, columns, u, 0)) }}
      if (more{{ u }}) {
{{ put_block(columns, half(page, columns, u, 1)) }}
      }
      workgroupBarrier();
{% endfor %}
    }
{% endmacro %}
{# The vec4 in the pages of scores that holds column n of other quad c for the own quad i. #}
{% macro score_at(i, c, n) %}pages[(x / 4u + {{ 4 * c }}u) * OWN_PAGES + {{ own_page(i) }}][x % 4u * 4u + {{ n }}u][(y ^ (x % 4u * 2u)){% if DOWN * i % 16 %} + {{ DOWN * i % 16 }}u{% endif %}]{% endmacro %}
{# Writes column by column what an invocation has row by row. #}
{% macro put_scores(score) %}
{% for i in range(OWN_QUADS) %}{% for c in range(OTHER_QUADS) %}{% for n in range(4) %}
    {{ score_at(i, c, n) }} = vec4f({% for r in range(4) %}{{ score }}{{ 4 * i + r }}_{{ c }}[{{ n }}]{{ ", " if r < 3 }}{% endfor %});
{% endfor %}{% endfor %}{% endfor %}
{% endmacro %}
{# Declares x, y, the places of their vec4s in a row, and the numbers under way. #}
{% macro declare(fetches) %}
  let x = lane % 8u + lane / 32u % 2u * 8u;
  let y = lane / 8u % 4u + lane / 64u * 4u;
{% for fourth in range(4) %}
  let x{{ fourth }} = x ^ {{ 2 * fourth }}u;
  let y{{ fourth }} = y ^ {{ 2 * fourth }}u;
{% endfor %}
{% for i in range(fetches) %}
  var fetched{{ i }} = Raw();
{% endfor %}
{% endmacro %}
