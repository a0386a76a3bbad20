import { sizeOf, type HalfType } from "../dtype.ts"
import { applyFusedOne } from "../graph/apply.ts"
import type { Emitter, FusedOp, Operand } from "../graph/fused-op.ts"
import type { Tensor } from "../graph/tensor.ts"
import { eachItem, itemParams, itemsGrid, reads, writes, type Kernel } from "../program/kernel.ts"

/** Nearest bfloat16, ties to even, in the upper half of the word; a NaN stays one. */
const bf16Wgsl = `
fn half(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  let rounded = bits + 0x7fffu + ((bits >> 16u) & 1u);
  return select(rounded, bits | 0x400000u, (bits & 0x7fffffffu) > 0x7f800000u) >> 16u;
}`

/**
 * Nearest IEEE half, ties to even, written out since WGSL leaves the rounding of `pack2x16float` to the driver; beyond
 * 65520 it is infinite.
 */
const f16Wgsl = `
fn half(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  let sign = (bits >> 16u) & 0x8000u;
  let b = bits & 0x7fffffffu;
  if (b > 0x7f800000u) { return sign | 0x7e00u; }
  if (b >= 0x477ff000u) { return sign | 0x7c00u; }
  if (b >= 0x38800000u) { return sign | ((b - 0x38000000u + 0xfffu + ((b >> 13u) & 1u)) >> 13u); }
  if (b <= 0x33000000u) { return sign; }
  let mantissa = (b & 0x7fffffu) | 0x800000u;
  let shift = 126u - (b >> 23u);
  let rest = mantissa & ((1u << shift) - 1u);
  let middle = 1u << (shift - 1u);
  let floor = mantissa >> shift;
  return sign | (floor + select(0u, 1u, rest > middle || (rest == middle && (floor & 1u) == 1u)));
}`

const kernel = (dtype: HalfType): Kernel => ({
  name: `pack ${dtype}`,
  params: { ...itemParams, size: "u32" },
  buffers: [reads("x"), writes("out", "u32")],
  body: () => `${dtype === "f16" ? f16Wgsl : bf16Wgsl}
${eachItem(`let second = select(0u, half(x[min(i * 2u + 1u, p.size - 1u)]), i * 2u + 1u < p.size);
    out[i] = half(x[i * 2u]) | (second << 16u);`)}`,
})

const launch = (emit: Emitter, x: Operand, out: Operand, dtype: HalfType): void => {
  const size = sizeOf(x.spec.shape)
  const { params, grid } = itemsGrid(Math.ceil(size / 2), emit.device)
  emit.launch(kernel(dtype), [x, out], [...params, size], grid)
}

const packOp: FusedOp<HalfType> = {
  name: "cast",
  infer: ([x], dtype) => [{ shape: x!.shape, dtype }],
  lower: (emit, [x], [out], dtype) => launch(emit, x!, out!, dtype),
  backward: ({ grads: [g] }) => [g],
}

/** f32 values stored two to a word, rounded to nearest even. */
export const pack = (x: Tensor, dtype: HalfType): Tensor => applyFusedOne(packOp, [x], dtype)

const packIntoOp: FusedOp<HalfType> = {
  name: "round into",
  readsPacked: [0],
  infer: ([target]) => [target!],
  inPlace: () => ({ 0: 0 }),
  lower: (emit, [target, x], _, dtype) => launch(emit, x!, target!, dtype),
}

/** Rounds f32 values into `target`, of f16 or bf16 and the same size, where it lies. For its effect. */
export const packInto = (target: Tensor, x: Tensor): Tensor =>
  applyFusedOne(packIntoOp, [target, x], target.dtype as HalfType)
