import { showShape, type DType } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import { applyFusedOne } from "../graph/apply.ts"
import type { FusedOp } from "../graph/fused-op.ts"
import type { Tensor } from "../graph/tensor.ts"
import { gridFor, perItem, reads, writes, type Kernel } from "../program/kernel.ts"
import { reader, widthType } from "../program/reader.ts"

/** One invocation per vector of `width` elements; 0 where an id names no row. */
const gather = (dtype: DType, width: 4 | 1): Kernel => {
  const table = reader("table", dtype, width)
  return {
    name: `embedding: gather rows of ${dtype}, loads ${width}`,
    params: { items: "u32", width: "u32", rows: "u32" },
    buffers: [table.buffer, reads("ids", "u32"), writes("out", widthType("f32", width))],
    body: () => `${table.declaration}${perItem(64, "p.items")}
  let id = ids[i / p.width];
  let found = id < p.rows;
  let row = ${table.at("select(0u, id, found) * p.width + i % p.width")};
  out[i] = select(${widthType("f32", width)}(), row, found);
}`,
  }
}

/** Column by column, rows in order: no atomics, so the sum has one order. */
const scatterAdd: Kernel = {
  name: "embedding: scatter-add rows",
  params: { width: "u32", rows: "u32", tableRows: "u32" },
  buffers: [reads("grad"), reads("ids", "u32"), writes("out")],
  body: () => `${perItem(64, "p.width")}
  for (var row = 0u; row < p.rows; row++) {
    if (ids[row] >= p.tableRows) { continue; }
    let at = ids[row] * p.width + i;
    out[at] = out[at] + grad[row * p.width + i];
  }
}`,
}

const zero: Kernel = {
  name: "zero",
  params: { items: "u32" },
  buffers: [writes("out")],
  body: () => `${perItem(64, "p.items")}
  out[i] = 0.0;
}`,
}

const embeddingOp: FusedOp<undefined> = {
  name: "embedding",
  floats: [0],
  readsPacked: [0],
  infer: ([table, ids]) => {
    const isIndex = ids!.dtype === "i32" || ids!.dtype === "u32"
    if (table!.shape.length !== 2 || ids!.shape.length !== 1 || !isIndex)
      throw new ShapeError(
        "embedding",
        `needs a table [V, D] and i32 or u32 ids [N], got ${showShape(table!.shape)} and ${ids!.dtype} ${showShape(ids!.shape)}`,
      )
    return [{ shape: [ids!.shape[0]!, table!.shape[1]!], dtype: "f32" }]
  },
  lower: (emit, [table, ids], [out]) => {
    const [rows, columns] = out!.spec.shape as [number, number]
    const width = columns % 4 === 0 ? 4 : 1
    const items = (rows * columns) / width
    const kernel = gather(table!.spec.dtype, width)
    emit.launch(kernel, [table!, ids!, out!], [items, columns / width, table!.spec.shape[0]!], gridFor(items, 64))
  },
  backward: ({ inputs: [table, ids], grads: [g] }) => [
    applyFusedOne(scatterOp, [g!, ids!], { tableRows: table!.shape[0]!, accumulate: false }),
    undefined,
  ],
}

const scatterOp: FusedOp<{ readonly tableRows: number; readonly accumulate: boolean }> = {
  name: "embedding gradient",
  infer: ([grad], { tableRows }) => [{ shape: [tableRows, grad!.shape[1]!], dtype: "f32" }],
  lower: (emit, [grad, ids], [out], { tableRows, accumulate }) => {
    const [rows, width] = grad!.spec.shape as [number, number]
    if (!accumulate) emit.launch(zero, [out!], [tableRows * width], gridFor(tableRows * width, 64))
    emit.launch(scatterAdd, [grad!, ids!, out!], [width, rows, tableRows], gridFor(width, 64))
  },
  accumulating: (attributes) => ({ ...attributes, accumulate: true }),
}

/**
 * Rows of `table` [V, D], which may be packed, picked by `ids` (i32 or u32, any shape): f32, with an axis D added. An id that
 * is none of 0 … V − 1 reads zeros, as in `gather`, and its gradient goes nowhere.
 */
export const embedding = (table: Tensor, ids: Tensor): Tensor => {
  if (ids.shape.length === 1) return applyFusedOne(embeddingOp, [table, ids], undefined)
  const rows = applyFusedOne(embeddingOp, [table, ids.reshape([ids.size])], undefined)
  return rows.reshape([...ids.shape, rows.shape[1]!])
}
