import { showShape } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import { applyFusedOne } from "../graph/apply.ts"
import type { FusedOp } from "../graph/fused-op.ts"
import type { Tensor } from "../graph/tensor.ts"
import { gridFor, perItem, reads, writes, type Kernel } from "../program/kernel.ts"

const gather: Kernel = {
  name: "embedding: gather rows",
  params: { items: "u32", width: "u32" },
  buffers: [reads("table"), reads("ids", "i32"), writes("out")],
  body: () => `${perItem(64, "p.items")}
  out[i] = table[u32(ids[i / p.width]) * p.width + i % p.width];
}`,
}

/** Column by column, rows in order: no atomics, so the sum has one order. */
const scatterAdd: Kernel = {
  name: "embedding: scatter-add rows",
  params: { width: "u32", rows: "u32", tableRows: "u32" },
  buffers: [reads("grad"), reads("ids", "i32"), writes("out")],
  body: () => `${perItem(64, "p.width")}
  for (var row = 0u; row < p.rows; row++) {
    let at = u32(ids[row]) * p.width + i;
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
  infer: ([table, ids]) => {
    if (table!.shape.length !== 2 || ids!.shape.length !== 1 || ids!.dtype !== "i32")
      throw new ShapeError(
        "embedding",
        `needs a table [V, D] and i32 ids [N], got ${showShape(table!.shape)} and ${ids!.dtype} ${showShape(ids!.shape)}`,
      )
    return [{ shape: [ids!.shape[0]!, table!.shape[1]!], dtype: "f32" }]
  },
  lower: (emit, [table, ids], [out]) => {
    const [rows, width] = out!.spec.shape as [number, number]
    emit.launch(gather, [table!, ids!, out!], [rows * width, width], gridFor(rows * width, 64))
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

/** Rows of `table` [V, D] picked by `ids` (i32 [N], 0 ≤ id < V): [N, D]. */
export const embedding = (table: Tensor, ids: Tensor): Tensor => applyFusedOne(embeddingOp, [table, ids], undefined)
