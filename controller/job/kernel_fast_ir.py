"""The text of the faster kernel for bfloat16 (kernel_fast.py), in LLVM's assembly language.

A tile of a row that it cannot prove is left to the exact kernel, whose text is part of it. Must not know how it is
compiled and called.
"""

from __future__ import annotations

from controller.job.kernel_ir import F32S, I32S, LANES, NEXT, TILE, Axis, merge

# Of x: rounding it, and both ends of its error, 2^-24 each, and one more. Of nothing: more than all that float32 loses
# because it is too small for it.
_OF_X, _OF_NOTHING = "0x3E90000000000000", "0x38AA95A5C0000000"  # 2^-22 and 1e-35

MERGE = f"""{merge("BF16", "BF16", Axis.NONE)}
declare {F32S} @llvm.fma.v{LANES}f32({F32S}, {F32S}, {F32S})
declare {F32S} @llvm.fabs.v{LANES}f32({F32S})

define i64 @fast(ptr noalias %weight, ptr noalias %left, ptr noalias %right, ptr %scale, ptr noalias %out,
                 i64 %rows, i64 %columns, i64 %rank,
                 ptr noalias %left32, ptr noalias %right32, i64 %rank32, ptr noalias %of_rows, ptr noalias %of_tiles) {{
entry:
  %nothing = icmp eq i64 %rows, 0
  br i1 %nothing, label %end, label %tiles
tiles:
  %start = phi i64 [ 0, %entry ], [ %start_next, %tile_end ]
  %bad_so_far = phi i64 [ 0, %entry ], [ %bad, %tile_end ]
  %more = icmp ult i64 %start, %columns
  br i1 %more, label %tile, label %end
{TILE}  %at_tile32 = mul i64 %start, %rank32
  %tile_right32 = getelementptr float, ptr %right32, i64 %at_tile32
  %number = udiv i64 %start, {LANES}
  %tp = getelementptr float, ptr %of_tiles, i64 %number
  %of_tile = load float, ptr %tp, align 4
  br label %row
row:
  %i = phi i64 [ 0, %tile ], [ %i_next, %row_end ]
  %bad_before = phi i64 [ %bad_so_far, %tile ], [ %bad, %row_end ]
  %before = mul i64 %i, %columns
  %at_row = add i64 %before, %start
  %wp = getelementptr i16, ptr %weight, i64 %at_row
  %op = getelementptr i16, ptr %out, i64 %at_row
  br i1 %whole, label %begin, label %exact
begin:
  %at_left32 = mul i64 %i, %rank32
  %row_left32 = getelementptr float, ptr %left32, i64 %at_left32
  br label %ranks
ranks:
  %k = phi i64 [ 0, %begin ], [ %k_next, %ranks ]
  %a = phi {F32S} [ zeroinitializer, %begin ], [ %a_next, %ranks ]
  %b = phi {F32S} [ zeroinitializer, %begin ], [ %b_next, %ranks ]
  %k1 = add i64 %k, 1
  %lpa = getelementptr float, ptr %row_left32, i64 %k
  %lpb = getelementptr float, ptr %row_left32, i64 %k1
  %la = load float, ptr %lpa, align 4
  %lb = load float, ptr %lpb, align 4
  %la0 = insertelement {F32S} poison, float %la, i64 0
  %lb0 = insertelement {F32S} poison, float %lb, i64 0
  %las = shufflevector {F32S} %la0, {F32S} poison, <{LANES} x i32> zeroinitializer
  %lbs = shufflevector {F32S} %lb0, {F32S} poison, <{LANES} x i32> zeroinitializer
  %at_a = mul i64 %k, {LANES}
  %at_b = mul i64 %k1, {LANES}
  %rpa = getelementptr float, ptr %tile_right32, i64 %at_a
  %rpb = getelementptr float, ptr %tile_right32, i64 %at_b
  %ra = load {F32S}, ptr %rpa, align 4
  %rb = load {F32S}, ptr %rpb, align 4
  %a_next = call {F32S} @llvm.fma.v{LANES}f32({F32S} %las, {F32S} %ra, {F32S} %a)
  %b_next = call {F32S} @llvm.fma.v{LANES}f32({F32S} %lbs, {F32S} %rb, {F32S} %b)
  %k_next = add i64 %k, 2
  %k_more = icmp ult i64 %k_next, %rank32
  br i1 %k_more, label %ranks, label %summed
summed:
  %raw = load <{LANES} x i16>, ptr %wp, align 2
  %wide = zext <{LANES} x i16> %raw to {I32S}
  %bits = shl {I32S} %wide, splat (i32 16)
  %w = bitcast {I32S} %bits to {F32S}
  %product = fadd {F32S} %a_next, %b_next
  %x = fadd {F32S} %w, %product
  %ip = getelementptr float, ptr %of_rows, i64 %i
  %of_row = load float, ptr %ip, align 4
  %of_product = fmul float %of_row, %of_tile
  %of_all = fadd float %of_product, {_OF_NOTHING}
  %e0 = insertelement {F32S} poison, float %of_all, i64 0
  %es = shufflevector {F32S} %e0, {F32S} poison, <{LANES} x i32> zeroinitializer
  %size = call {F32S} @llvm.fabs.v{LANES}f32({F32S} %x)
  %of_x = fmul {F32S} %size, splat (float {_OF_X})
  %error = fadd {F32S} %of_x, %es
  %low = fsub {F32S} %x, %error
  %high = fadd {F32S} %x, %error
  %low_bits = bitcast {F32S} %low to {I32S}
  %high_bits = bitcast {F32S} %high to {I32S}
  %low_half = add {I32S} %low_bits, splat (i32 {0x8000})
  %high_half = add {I32S} %high_bits, splat (i32 {0x8000})
  %unsure = xor {I32S} %low_half, %high_half
  %high_size = and {I32S} %high_bits, splat (i32 {0x7FFFFFFF})
  %over = add {I32S} %high_size, splat (i32 {0x80000000 - 0x7F7F0000})
  %too_large = and {I32S} %over, splat (i32 {-0x80000000})
  %open = or {I32S} %unsure, %too_large
  %any_bits = call i32 @llvm.vector.reduce.or.v{LANES}i32({I32S} %open)
  %any = lshr i32 %any_bits, 16
  %is_proven = icmp eq i32 %any, 0
  br i1 %is_proven, label %proven, label %exact
proven:
  %high16 = lshr {I32S} %high_half, splat (i32 16)
  %result = trunc {I32S} %high16 to <{LANES} x i16>
  store <{LANES} x i16> %result, ptr %op, align 2
  br label %row_end
exact:
  %at_left = mul i64 %i, %rank
  %row_left = getelementptr double, ptr %left, i64 %at_left
  %is_bad = call i64 @kernel(ptr %wp, ptr %row_left, ptr %tile_right, ptr %scale, ptr %op, i64 1, i64 %n, i64 %rank)
  %bad_now = or i64 %bad_before, %is_bad
  br label %row_end
row_end:
  %bad = phi i64 [ %bad_before, %proven ], [ %bad_now, %exact ]
{NEXT}end:
  %answer = phi i64 [ 0, %entry ], [ %bad_so_far, %tiles ]
  ret i64 %answer
}}
"""
