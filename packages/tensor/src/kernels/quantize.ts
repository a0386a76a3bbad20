import { quantizedForm, showShape, sizeOf, type QuantizedForm, type QuantizedType } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import { applyFusedOne } from "../graph/apply.ts"
import type { FusedOp } from "../graph/fused-op.ts"
import type { Tensor } from "../graph/tensor.ts"
import { gridFor, perItem, reads, writes, type Kernel } from "../program/kernel.ts"

/** One invocation per group. Without an offset, the largest element is ±127 (or ±7) of the scale. */
const kernel = (dtype: QuantizedType, { bits, lowest, hasOffset, headWords, words }: QuantizedForm): Kernel => ({
  name: `quantize to ${dtype}`,
  params: { groups: "u32", group: "u32" },
  buffers: [reads("x"), writes("out", "u32")],
  body: () => `${perItem(64, "p.groups")}
  let at = i * p.group; let block = i * ${words}u;
  var low = x[at]; var high = x[at];
  for (var k = 1u; k < p.group; k++) { low = min(low, x[at + k]); high = max(high, x[at + k]); }
  let reach = ${hasOffset ? "high - low" : "max(abs(low), abs(high))"};
  let scale = reach / ${hasOffset ? 2 ** bits - 1 : 2 ** (bits - 1) - 1}.0;
  let inverse = select(0.0, 1.0 / scale, reach > 0.0);
  out[block] = bitcast<u32>(scale);
  ${hasOffset ? `out[block + 1u] = bitcast<u32>(low + scale * ${-lowest}.0);` : ""}
  for (var w = 0u; w < p.group / ${32 / bits}u; w++) {
    var word = 0u;
    for (var k = 0u; k < ${32 / bits}u; k++) {
      let value = x[at + w * ${32 / bits}u + k];
      let q = i32(round(${hasOffset ? "(value - low)" : "value"} * inverse))${hasOffset ? ` + ${lowest}` : ""};
      word |= (bitcast<u32>(q) & ${2 ** bits - 1}u) << (k * ${bits}u);
    }
    out[block + ${headWords}u + w] = word;
  }
}`,
})

const quantizeOp: FusedOp<QuantizedType> = {
  name: "cast",
  infer: ([x], dtype) => [{ shape: x!.shape, dtype }],
  lower: (emit, [x], [out], dtype) => {
    const form = quantizedForm(dtype)
    const groups = sizeOf(x!.spec.shape) / form.group
    emit.launch(kernel(dtype, form), [x!, out!], [groups, form.group], gridFor(groups, 64))
  },
}

/** f32 values in few bits, each group rounded by a scale of its own. Groups do not go beyond a row. */
export const quantize = (x: Tensor, dtype: QuantizedType): Tensor => {
  const { group } = quantizedForm(dtype)
  if ((x.shape.at(-1) ?? 1) % group !== 0)
    throw new ShapeError(
      "cast",
      `${dtype} has groups of ${group}, which do not divide the rows of ${showShape(x.shape)}`,
    )
  return applyFusedOne(quantizeOp, [x], dtype)
}
