"""The kernel's text in LLVM's assembly language (LangRef, LLVM 19 and later).

One tile of LANES columns at a time, row by row; LLVM cuts a vector of LANES numbers into registers of the
processor. Must not know how it is compiled and called.
"""

from __future__ import annotations

from enum import StrEnum

LANES = 32
F32S, F64S, I32S, I64S = (f"<{LANES} x {kind}>" for kind in ("float", "double", "i32", "i64"))
_STORED = {"BF16": "i16", "F16": "i16", "F32": "float", "F64": "double"}
_BYTES = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8}


class Axis(StrEnum):
    """What has one factor, or one sum: each row, each column, nothing."""

    NONE = "none"
    ROWS = "rows"
    COLUMNS = "columns"


def merge(source: str, target: str, scale: Axis) -> str:
    """Writes round(scale * (W + L R)) to %out; gives back 0 if every result is finite."""
    return _function(source, _scale(scale) + _ENCODE[target], _STORED[target], _BYTES[target])


def squares(source: str, axis: Axis) -> str:
    """Adds (W + L R)^2 to %out: LANES sums for each row, or one for each column."""
    at = "add i64 %start, 0" if axis is Axis.COLUMNS else f"mul i64 %i, {LANES}"
    body = f"""
  %at = {at}
  %sp = getelementptr double, ptr %out, i64 %at
  %old = load {F64S}, ptr %sp, align 8
  %square = fmul {F64S} %sum, %sum
  %new = fadd {F64S} %old, %square
  store {F64S} %new, ptr %sp, align 8
"""
    return _function(source, body, None, 0)


def _i(value: int) -> str:
    """A vector of one number."""
    return f"splat (i32 {value})"


def _scale(axis: Axis) -> str:
    if axis is Axis.NONE:
        return f"  %x = fadd {F64S} %sum, splat (double -0.0)\n"  # adding -0.0 changes nothing: it is optimized away
    if axis is Axis.COLUMNS:
        return f"""
  %fp = getelementptr double, ptr %scale, i64 %start
  %factors = load {F64S}, ptr %fp, align 8
  %x = fmul {F64S} %sum, %factors
"""
    return f"""
  %fp = getelementptr double, ptr %scale, i64 %i
  %factor = load double, ptr %fp, align 8
  %f0 = insertelement {F64S} poison, double %factor, i64 0
  %factors = shufflevector {F64S} %f0, {F64S} poison, <{LANES} x i32> zeroinitializer
  %x = fmul {F64S} %sum, %factors
"""


_DECODE = {
    "BF16": f"""
  %wide = zext <{LANES} x i16> %raw to {I32S}
  %bits = shl {I32S} %wide, {_i(16)}
  %single = bitcast {I32S} %bits to {F32S}
  %w = fpext {F32S} %single to {F64S}
""",
    # The exponent is moved by a product with 2^112, which is exact for subnormal numbers too.
    "F16": f"""
  %wide = zext <{LANES} x i16> %raw to {I32S}
  %abs = and {I32S} %wide, {_i(0x7FFF)}
  %moved = shl {I32S} %abs, {_i(13)}
  %small = bitcast {I32S} %moved to {F32S}
  %right_size = fmul {F32S} %small, splat (float 0x46F0000000000000)
  %infinite = icmp uge {I32S} %abs, {_i(0x7C00)}
  %known = select <{LANES} x i1> %infinite, {F32S} splat (float 0x7FF0000000000000), {F32S} %right_size
  %known_bits = bitcast {F32S} %known to {I32S}
  %sign = and {I32S} %wide, {_i(0x8000)}
  %sign_moved = shl {I32S} %sign, {_i(16)}
  %bits = or {I32S} %known_bits, %sign_moved
  %single = bitcast {I32S} %bits to {F32S}
  %w = fpext {F32S} %single to {F64S}
""",
    "F32": f"  %w = fpext {F32S} %raw to {F64S}\n",
    "F64": f"  %w = fadd {F64S} %raw, splat (double -0.0)\n",
}

# float64 to float32, rounded to odd: an inexact number gets its last bit set, which no later rounding to fewer bits
# can take for a tie (Boldo and Melquiond, 2008). %odd are the bits without the sign.
_TO_ODD = f"""
  %near = fptrunc {F64S} %x to {F32S}
  %back = fpext {F32S} %near to {F64S}
  %near_bits = bitcast {F32S} %near to {I32S}
  %far = call {F64S} @llvm.fabs.v{LANES}f64({F64S} %back)
  %exact = call {F64S} @llvm.fabs.v{LANES}f64({F64S} %x)
  %is_away = fcmp ogt {F64S} %far, %exact
  %away = sext <{LANES} x i1> %is_away to {I32S}
  %is_inexact = fcmp une {F64S} %back, %x
  %inexact = zext <{LANES} x i1> %is_inexact to {I32S}
  %truncated = add {I32S} %near_bits, %away
  %odd_signed = or {I32S} %truncated, %inexact
  %odd = and {I32S} %odd_signed, {_i(0x7FFFFFFF)}
"""


def _finite(value: str, limit: int) -> str:
    """Notes in %bad whether a number, as bits without sign, is at or over the limit: it sets the highest bit."""
    return f"""
  %over = add {I32S} {value}, {_i(0x80000000 - limit)}
  %bad_before = load {I32S}, ptr %bad, align 64
  %bad_now = or {I32S} %bad_before, %over
  store {I32S} %bad_now, ptr %bad, align 64
"""


_ENCODE = {
    "BF16": f"""{_TO_ODD}{_finite("%odd", 0x7F7F8000)}
  %shifted = lshr {I32S} %odd_signed, {_i(16)}
  %even = and {I32S} %shifted, {_i(1)}
  %half = add {I32S} %odd_signed, {_i(0x7FFF)}
  %rounded = add {I32S} %half, %even
  %top = lshr {I32S} %rounded, {_i(16)}
  %result = trunc {I32S} %top to <{LANES} x i16>
""",
    # Normal numbers by rounding the bits; subnormal ones by adding 1/2, whose last bit is worth 2^-24.
    "F16": f"""{_TO_ODD}{_finite("%odd", 0x477FF000)}
  %shifted = lshr {I32S} %odd, {_i(13)}
  %even = and {I32S} %shifted, {_i(1)}
  %half = add {I32S} %odd, {_i(0xFFF - (112 << 23))}
  %rounded = add {I32S} %half, %even
  %normal = lshr {I32S} %rounded, {_i(13)}
  %odd_float = bitcast {I32S} %odd to {F32S}
  %with_half = fadd {F32S} %odd_float, splat (float 0.5)
  %with_half_bits = bitcast {F32S} %with_half to {I32S}
  %subnormal = sub {I32S} %with_half_bits, {_i(0x3F000000)}
  %is_small = icmp ult {I32S} %odd, {_i(0x38800000)}
  %size = select <{LANES} x i1> %is_small, {I32S} %subnormal, {I32S} %normal
  %sign32 = lshr {I32S} %odd_signed, {_i(16)}
  %sign16 = and {I32S} %sign32, {_i(0x8000)}
  %signed = or {I32S} %size, %sign16
  %result = trunc {I32S} %signed to <{LANES} x i16>
""",
    "F32": f"""
  %result = fptrunc {F64S} %x to {F32S}
  %result_bits = bitcast {F32S} %result to {I32S}
  %size = and {I32S} %result_bits, {_i(0x7FFFFFFF)}
{_finite("%size", 0x7F800000)}
""",
    "F64": f"""
  %result = fadd {F64S} %x, splat (double -0.0)
  %result_bits = bitcast {F64S} %result to {I64S}
  %high = lshr {I64S} %result_bits, splat (i64 32)
  %high32 = trunc {I64S} %high to {I32S}
  %size = and {I32S} %high32, {_i(0x7FFFFFFF)}
{_finite("%size", 0x7FF00000)}
""",
}


# How both kernels begin a tile, and go on to the next row and tile.
TILE = f"""tile:
  %left_over = sub i64 %columns, %start
  %n = call i64 @llvm.umin.i64(i64 %left_over, i64 {LANES})
  %whole = icmp eq i64 %n, {LANES}
  %at_tile = mul i64 %start, %rank
  %tile_right = getelementptr double, ptr %right, i64 %at_tile
"""
NEXT = f"""  %i_next = add i64 %i, 1
  %i_more = icmp ult i64 %i_next, %rows
  br i1 %i_more, label %row, label %tile_end
tile_end:
  %start_next = add i64 %start, {LANES}
  br label %tiles
"""


def _function(source: str, finish: str, stored: str | None, bytes_out: int) -> str:
    """The loops over tiles, rows and ranks. `finish` turns %sum into %result, which is stored as `stored`."""
    kind, size = _STORED[source], _BYTES[source]
    store, after = ("", "")
    if stored is not None:
        store = f"""
  %op_whole = getelementptr {stored}, ptr %out, i64 %at_row
  %op = select i1 %whole, ptr %op_whole, ptr %short_out
  store <{LANES} x {stored}> %result, ptr %op, align {bytes_out}
"""
        after = f"""
  %bytes_out = mul i64 %n, {bytes_out}
  call void @llvm.memcpy.p0.p0.i64(ptr %op_whole, ptr %short_out, i64 %bytes_out, i1 false)
"""
    return f"""
declare {F64S} @llvm.fma.v{LANES}f64({F64S}, {F64S}, {F64S})
declare {F64S} @llvm.fabs.v{LANES}f64({F64S})
declare i64 @llvm.umin.i64(i64, i64)
declare i32 @llvm.vector.reduce.or.v{LANES}i32({I32S})
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)

define i64 @kernel(ptr noalias %weight, ptr noalias %left, ptr noalias %right, ptr %scale, ptr %out,
                   i64 %rows, i64 %columns, i64 %rank) {{
entry:
  %bad = alloca {I32S}, align 64
  %short_in = alloca [{LANES} x i64], align 64
  %short_out = alloca [{LANES} x i64], align 64
  store {I32S} zeroinitializer, ptr %bad, align 64
  store [{LANES} x i64] zeroinitializer, ptr %short_in, align 64
  %no_rank = icmp eq i64 %rank, 0
  %nothing = icmp eq i64 %rows, 0
  br i1 %nothing, label %end, label %tiles
tiles:
  %start = phi i64 [ 0, %entry ], [ %start_next, %tile_end ]
  %more = icmp ult i64 %start, %columns
  br i1 %more, label %tile, label %end
{TILE}  br label %row
row:
  %i = phi i64 [ 0, %tile ], [ %i_next, %row_end ]
  %before = mul i64 %i, %columns
  %at_row = add i64 %before, %start
  %wp_whole = getelementptr {kind}, ptr %weight, i64 %at_row
  br i1 %whole, label %ready, label %short
short:
  %bytes_in = mul i64 %n, {size}
  call void @llvm.memcpy.p0.p0.i64(ptr %short_in, ptr %wp_whole, i64 %bytes_in, i1 false)
  br label %ready
ready:
  %wp = phi ptr [ %wp_whole, %row ], [ %short_in, %short ]
  %at_left = mul i64 %i, %rank
  %row_left = getelementptr double, ptr %left, i64 %at_left
  br i1 %no_rank, label %summed, label %ranks
ranks:
  %k = phi i64 [ 0, %ready ], [ %k_next, %ranks ]
  %so_far = phi {F64S} [ splat (double -0.0), %ready ], [ %added, %ranks ]
  %lp = getelementptr double, ptr %row_left, i64 %k
  %l = load double, ptr %lp, align 8
  %l0 = insertelement {F64S} poison, double %l, i64 0
  %ls = shufflevector {F64S} %l0, {F64S} poison, <{LANES} x i32> zeroinitializer
  %at_k = mul i64 %k, {LANES}
  %rp = getelementptr double, ptr %tile_right, i64 %at_k
  %r = load {F64S}, ptr %rp, align 8
  %added = call {F64S} @llvm.fma.v{LANES}f64({F64S} %ls, {F64S} %r, {F64S} %so_far)
  %k_next = add i64 %k, 1
  %k_more = icmp ult i64 %k_next, %rank
  br i1 %k_more, label %ranks, label %summed
summed:
  %product = phi {F64S} [ splat (double -0.0), %ready ], [ %added, %ranks ]
  %raw = load <{LANES} x {kind}>, ptr %wp, align {size}
{_DECODE[source]}
  %sum = fadd {F64S} %w, %product
{finish}
{store}
  br i1 %whole, label %row_end, label %short_end
short_end:
{after}
  br label %row_end
row_end:
{NEXT}end:
  %all_bad = load {I32S}, ptr %bad, align 64
  %any = call i32 @llvm.vector.reduce.or.v{LANES}i32({I32S} %all_bad)
  %high_bit = lshr i32 %any, 31
  %answer = zext i32 %high_bit to i64
  ret i64 %answer
}}
"""
