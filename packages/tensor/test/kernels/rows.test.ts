import { describe, expect, test } from "vitest"
import { applyFused } from "../../src/graph/apply.ts"
import type { FusedOp } from "../../src/graph/fused-op.ts"
import { largest, rowForm, rowLaunch, type RowForm, type RowKernel } from "../../src/kernels/rows.ts"
import { reads, writes } from "../../src/program/kernel.ts"
import { testDevice } from "../device.ts"
import { expectClose, expectSameBits, randomArray } from "../reference.ts"

const gpu = await testDevice()
const lanes = gpu.traits.subgroupSize

/** A kernel that does everything a row kernel can: log Σ eˣ and Σ x² of a row, x / √Σ x² and one element of it. */
const kernel: RowKernel = {
  name: "rows under test",
  params: { scale: "f32" },
  buffers: [reads("x", "T"), reads("weight", "T"), writes("out", "T"), writes("lse"), writes("last")],
  body: ({ fold, each, once, element }) => `
  ${fold([largest("top", "v")], "let v = x[at];")}
  ${fold(
    [
      { name: "total", next: (sum, of) => `${sum} + ${of("e")}` },
      { name: "squares", next: (sum, of) => `fma(${of("v")}, ${of("v")}, ${sum})` },
    ],
    "let v = x[at]; let e = exp(v - top);",
  )}
  let factor = p.scale * inverseSqrt(squares);
  ${each(["factor"], "out[at] = x[at] * factor * weight[k];")}
  ${once(`lse[row] = top + log(total); last[row] = ${element("x", "(p.width - 1u)")};`)}`,
}

const op: FusedOp<RowForm> = {
  name: "rows under test",
  infer: ([x]) => [x!, { shape: [x!.shape[0]!], dtype: "f32" }, { shape: [x!.shape[0]!], dtype: "f32" }],
  lower: (emit, inputs, outputs, form) => {
    const [rows, width] = inputs[0]!.spec.shape as [number, number]
    const { kernel: wgsl, grid } = rowLaunch(kernel, rows, form)
    emit.launch(wgsl, [...inputs, ...outputs], [rows, width, 2], grid)
  },
}

const forms = (width: number): readonly RowForm[] =>
  [false, ...(width % 4 === 0 ? [true] : [])].flatMap((vector) => [
    { by: "invocation", threads: 64, vector },
    { by: "workgroup", threads: 64, vector },
    ...(lanes > 0 ? [{ by: "lane", threads: lanes, vector } as const] : []),
  ])

describe("a row kernel", () => {
  test.each([
    [1, 1],
    [3, 5],
    [2, 64],
    [9, 66],
    [17, 128],
    [3, 132],
    [2, 4999],
    [1, 5000],
  ])("%i rows of %i: every form gives the same bits", async (rows, width) => {
    const x = randomArray(rows * width, 1, -3, 3)
    const weight = randomArray(width, 2)
    const results = forms(width).map((form) => applyFused(op, [gpu.tensor(x, [rows, width]), gpu.tensor(weight)], form))
    const arrays = await gpu.readAll(results.flat())
    const [out, lse, last] = arrays as [Float32Array, Float32Array, Float32Array]
    arrays.forEach((array, i) =>
      expectSameBits(array, arrays[i % 3]!, `${JSON.stringify(forms(width)[Math.floor(i / 3)])} output ${i % 3}`),
    )
    for (let row = 0; row < rows; row++) {
      const own = [...x.subarray(row * width, (row + 1) * width)]
      const norm = Math.sqrt(own.reduce((sum, v) => sum + v * v, 0))
      expect(last[row]).toBe(own.at(-1))
      expectClose([lse[row]!], [Math.log(own.reduce((sum, v) => sum + Math.exp(v), 0))], { abs: 1e-5, rel: 1e-5 })
      expectClose(
        out.subarray(row * width, (row + 1) * width),
        own.map((v, i) => ((2 * v) / norm) * weight[i]!),
        { abs: 1e-5, rel: 1e-5 },
      )
    }
  })

  test("takes the form that suits the device", () => {
    const [cpu, graphics] = [
      { isSoftware: true, subgroupSize: 8 },
      { isSoftware: false, subgroupSize: 32 },
    ]
    expect(rowForm(64, 1024, cpu)).toEqual({ by: "lane", threads: 8, vector: true })
    expect(rowForm(64, 1023, { ...cpu, subgroupSize: 0 })).toEqual({ by: "invocation", threads: 64, vector: false })
    expect(rowForm(1, 50_000, cpu)).toEqual({ by: "workgroup", threads: 256, vector: true })
    expect(rowForm(64, 1024, graphics)).toEqual({ by: "workgroup", threads: 64, vector: true })
    expect(rowForm(64, 32, graphics)).toEqual({ by: "invocation", threads: 64, vector: true })
  })
})
