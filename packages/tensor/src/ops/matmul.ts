import { showShape, sizeOf } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import type { Tensor } from "../graph/tensor.ts"
import { batchedMatmul } from "../kernels/matmul/batched.ts"
import { matmul as product, type MatmulOptions } from "../kernels/matmul/matmul.ts"
import { broadcastShapes } from "./axes.ts"

/**
 * Matrix product over the last two axes, either operand read transposed; axes before them are batches and broadcast. A
 * vector is a row on the left and a column on the right, as in NumPy. Each element is one fma chain over ascending k.
 */
export const matmul = (a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor => {
  if (a.shape.length === 0 || b.shape.length === 0)
    throw new ShapeError("matmul", "a scalar has no matrix product: use mul")
  if (a.shape.length === 1)
    return matmul(a.unsqueeze(0), b, { ...options, transposeA: false }).squeeze(b.shape.length === 1 ? 0 : -2)
  if (b.shape.length === 1) return matmul(a, b.unsqueeze(1), { ...options, transposeB: false }).squeeze(-1)
  if (a.shape.length === 2 && b.shape.length === 2) return product(a, b, options)
  return overBatches(a, b, options)
}

const overBatches = (a: Tensor, b: Tensor, { transposeA = false, transposeB = false }: MatmulOptions): Tensor => {
  if (transposeA && transposeB) return overBatches(a, swapped(b), { transposeA })
  const [leadA, leadB] = [a.shape.slice(0, -2), b.shape.slice(0, -2)]
  const lead = broadcastShapes("matmul", [leadA, leadB])
  const fits = a.shape.at(transposeA ? -2 : -1) === b.shape.at(transposeB ? -1 : -2)
  if (!fits) throw new ShapeError("matmul", `${showShape(a.shape)} and ${showShape(b.shape)} do not fit`)
  const rows = a.shape.at(transposeA ? -1 : -2)!
  const columns = b.shape.at(transposeB ? -2 : -1)!
  const result = [...lead, rows, columns]
  // One matrix on the right for all: the rows of every batch make one tall matrix.
  if (sizeOf(leadB) === 1 && !transposeA)
    return product(a.reshape([sizeOf(leadA) * rows, a.shape.at(-1)!]), b.reshape(b.shape.slice(-2)), {
      transposeB,
    }).reshape(result)
  const batches = (x: Tensor, own: readonly number[]) => {
    const matrix = x.shape.slice(-2)
    return sizeOf(own) === 1
      ? x.reshape([1, ...matrix])
      : x.broadcastTo([...lead, ...matrix]).reshape([sizeOf(lead), ...matrix])
  }
  const layout = transposeA ? "tn" : transposeB ? "nt" : "nn"
  return batchedMatmul(layout, batches(a, leadA), batches(b, leadB)).reshape(result)
}

/** The last two axes exchanged. */
const swapped = (x: Tensor): Tensor => {
  const axes = x.shape.map((_, axis) => axis)
  return x.transpose([...axes.slice(0, -2), axes.at(-1)!, axes.at(-2)!])
}
