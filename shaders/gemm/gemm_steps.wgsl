// Tiles of a product in workgroup memory: the common part of the kernels that multiply without matrix units.
//
// A workgroup computes a TILE_M × TILE_N block, each invocation FRAGMENT_M × FRAGMENT_N numbers, in steps of STEP terms. Both operands are kept K-major
// (a row of a tile holds numbers of one k), whatever the LAYOUT, so the inner loop is the same: FRAGMENT_M · FRAGMENT_N products for FRAGMENT_M + FRAGMENT_N
// numbers from workgroup memory. While one step is multiplied the next is on its way from memory: two buffers, one barrier a step. TYPE_A, TYPE_B: what one
// load of an operand gives, in which its start and stride are counted: "vec4f", or the bits of four or eight halves, "vec2u" or "vec4u". Halves as such, kept from
// one step to the next, cost a fifth of the speed.
//
// Arrays are nested and all their indices but one are constants, since naga clamps each dynamic one.

{% set quads_m = FRAGMENT_M // 4 %}
{% set quads_n = FRAGMENT_N // 4 %}
{% set invocations = TILE_M * TILE_N // (FRAGMENT_M * FRAGMENT_N) %}
// Invocations along a row of tiles and along a column.
const ACROSS = {{ TILE_N // FRAGMENT_N }}u;
const DOWN = {{ TILE_M // FRAGMENT_M }}u;
var<workgroup> tile_a: array<array<array<vec4f, TILE_M / 4u>, STEP>, 2>;
var<workgroup> tile_b: array<array<array<vec4f, TILE_N / 4u>, STEP>, 2>;

{# Whether an operand is stored with K along its rows, numbers of a load, loads of an invocation. #}
{% set transposed_a = LAYOUT != "tn" %}
{% set transposed_b = LAYOUT == "nt" %}
{% set load_a = 8 if TYPE_A == "vec4u" else 4 %}
{% set load_b = 8 if TYPE_B == "vec4u" else 4 %}
{% set loads_a = TILE_M * STEP // invocations // load_a %}
{% set loads_b = TILE_N * STEP // invocations // load_b %}
{# Operands have a name, that of their binding, and a side: "a" or "b". #}
{% set of_a = {"transposed": transposed_a, "load": load_a, "loads": loads_a, "type": TYPE_A, "tile": TILE_M, "size": "params.m"} %}
{% set of_b = {"transposed": transposed_b, "load": load_b, "loads": loads_b, "type": TYPE_B, "tile": TILE_N, "size": "params.n"} %}
{# The p-th vec4 of f32 of a load. #}
{% macro wide(type, value, p) %}{% if type == "vec4u" %}vec4f(unpack2x16float({{ value }}[{{ 2 * p }}]), unpack2x16float({{ value }}[{{ 2 * p + 1 }}])){% elif type == "vec2u" %}vec4f(unpack2x16float({{ value }}.x), unpack2x16float({{ value }}.y)){% else %}{{ value }}{% endif %}{% endmacro %}
{# An invocation's variables for an operand: its place, and the numbers that it read. #}
{% macro declare_operand(name, side) %}
{% set of = of_a if side == "a" else of_b %}
{% for i in range(of.loads) %}
  var from_{{ name }}{{ i }}: u32;
  var next_{{ name }}{{ i }}: {{ of.type }};
{% endfor %}
{% endmacro %}
{# Where it reads at K = 0, of the tile that begins at row or column `first` of the matrix at `start`. Rows and columns beyond the matrix repeat the last ones; what they give is not stored. #}
{% macro aim_operand(name, side, start, first) %}
{% set of = of_a if side == "a" else of_b %}
{% set ld = "params.ld" ~ side %}
{% for i in range(of.loads) %}
  {
    let item = lane + {{ i * invocations }}u;
{% if of.transposed %}
    from_{{ name }}{{ i }} = {{ start }} + min({{ first }} + item / {{ STEP // of.load }}u, {{ of.size }} - 1u) * {{ ld }} + item % {{ STEP // of.load }}u;
{% else %}
    from_{{ name }}{{ i }} = {{ start }} + item / {{ of.tile // of.load }}u * {{ ld }} + min({{ first }} / {{ of.load }}u + item % {{ of.tile // of.load }}u, ({{ of.size }} - 1u) / {{ of.load }}u);
{% endif %}
  }
{% endfor %}
{% endmacro %}
{# Takes this invocation's part of one step into registers; in the last one, what lies beyond the sum counts as zero. #}
{% macro fetch_operand(name, side, base, last) %}
{% set of = of_a if side == "a" else of_b %}
{% set move = base ~ (" / " ~ of.load ~ "u" if of.transposed else " * params.ld" ~ side) %}
{% for i in range(of.loads) %}
{% if last %}
    {
      let item = lane + {{ i * invocations }}u;
      let inside = {{ base }} + {{ of.load ~ "u * (item % " ~ (STEP // of.load) ~ "u)" if of.transposed else "item / " ~ (of.tile // of.load) ~ "u" }} < params.k;
      next_{{ name }}{{ i }} = select({{ of.type }}(), {{ name }}[select(0u, from_{{ name }}{{ i }} + {{ move }}, inside)], inside);
    }
{% else %}
    next_{{ name }}{{ i }} = {{ name }}[from_{{ name }}{{ i }} + {{ move }}];
{% endif %}
{% endfor %}
{% endmacro %}
{# Puts what was fetched into a tile, times the vec4s named so where there are factors. Numbers of one row of a transposed operand go to as many rows of its tile. #}
{% macro put_operand(name, side, buffer, factor) %}
{% set of = of_a if side == "a" else of_b %}
{% for i in range(of.loads) %}
  {
    let item = lane + {{ i * invocations }}u;
{% for p in range(of.load // 4) %}
    let v{{ p }} = {{ wide(of.type, "next_" ~ name ~ i, p) }}{{ " * " ~ factor ~ p if factor }};
{% if of.transposed %}
    let row{{ p }} = item / {{ STEP // of.load }}u;
    let k{{ p }} = item % {{ STEP // of.load }}u * {{ of.load }}u + {{ 4 * p }}u;
{% for j in range(4) %}
    tile_{{ side }}[{{ buffer }}][k{{ p }} + {{ j }}u][row{{ p }} / 4u][row{{ p }} % 4u] = v{{ p }}[{{ j }}];
{% endfor %}
{% else %}
    tile_{{ side }}[{{ buffer }}][item / {{ of.tile // of.load }}u][item % {{ of.tile // of.load }}u * {{ of.load // 4 }}u + {{ p }}u] = v{{ p }};
{% endif %}
{% endfor %}
  }
{% endfor %}
{% endmacro %}
{% macro multiply(buffer) %}
{% for k in range(STEP) %}
  {
{% for i in range(quads_m) %}
    let a{{ i }} = tile_a[{{ buffer }}][{{ k }}][y + {{ i }}u * DOWN];
{% endfor %}
{% for i in range(quads_n) %}
    let b{{ i }} = tile_b[{{ buffer }}][{{ k }}][x + {{ i }}u * ACROSS];
{% endfor %}
{% for r in range(FRAGMENT_M) %}{% for c in range(quads_n) %}
    c{{ r }}_{{ c }} = fma(vec4f(a{{ r // 4 }}[{{ r % 4 }}]), b{{ c }}, c{{ r }}_{{ c }});
{% endfor %}{% endfor %}
  }
{% endfor %}
{% endmacro %}
{# Which part of a tile an invocation computes, and its sums. #}
{% macro own_fragment() %}
{% if TYPE_A == "vec4f" %}
  // 32 neighbours work on 8 × 4 fragments, in an order that takes the bits of both coordinates in turn.
  let x = (lane & 1u) | ((lane >> 1u) & 2u) | ((lane >> 2u) & 4u) | (lane / 32u % (ACROSS / 8u) * 8u);
  let y = ((lane >> 1u) & 1u) | ((lane >> 2u) & 2u) | (lane / (4u * ACROSS) * 4u);
{% else %}
  let x = lane % ACROSS;
  let y = lane / ACROSS;
{% endif %}
{% for r in range(FRAGMENT_M) %}{% for c in range(quads_n) %}
  var c{{ r }}_{{ c }} = vec4f();
{% endfor %}{% endfor %}
{% endmacro %}
{# Makes the sums those of nothing. #}
{% macro clear_sums() %}
{% for r in range(FRAGMENT_M) %}{% for c in range(quads_n) %}
  c{{ r }}_{{ c }} = vec4f();
{% endfor %}{% endfor %}
{% endmacro %}
{# For sums of whole pairs of steps. Takes the parts of a step of both operands, and puts them into their tiles. #}
{% macro fetch_both(a, b, base) %}
{{ fetch_operand(a, "a", base, false) }}
{{ fetch_operand(b, "b", base, false) }}
{% endmacro %}
{% macro put_both(a, b, buffer) %}
{{ put_operand(a, "a", buffer) }}
{{ put_operand(b, "b", buffer) }}
{% endmacro %}
{# Adds all terms of a sum whose first step is in the tiles. Where a sum of other operands follows, or `when` one does, its first step is there afterwards: it is aimed
   at and fetched during the last one of this sum. #}
{% macro add_all(a, b, terms, next_a, next_b, aim, when) %}
  for (var base = 0u; base < {{ terms }}; base += 2u * STEP) {
{{ fetch_both(a, b, "(base + STEP)") }}
{{ multiply("0") }}
{{ put_both(a, b, "1") }}
    workgroupBarrier();
    if (base + 2u * STEP < {{ terms }}) {
{{ fetch_both(a, b, "(base + 2u * STEP)") }}
    } else if ({{ when }}) {
{{ aim }}
{{ fetch_both(next_a, next_b, "0u") }}
    }
{{ multiply("1") }}
{% if next_a == a %}
{{ put_both(a, b, "0") }}
{% else %}
    if (base + 2u * STEP < {{ terms }}) {
{{ put_both(a, b, "0") }}
    } else {
{{ put_both(next_a, next_b, "0") }}
    }
{% endif %}
    workgroupBarrier();
  }
{% endmacro %}
