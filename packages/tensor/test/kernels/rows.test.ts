import { describe, expect, test } from "vitest"
import { applyFused } from "../../src/graph/apply.ts"
import type { Forms, FusedOp } from "../../src/graph/fused-op.ts"
import { largest, rowForm, rowLaunch, type RowForm, type RowKernel } from "../../src/kernels/rows/launch.ts"
import { reads, writes } from "../../src/program/kernel.ts"
import { testDevice } from "../device.ts"
import { expectClose, expectSameBits, randomArray } from "../reference.ts"

const gpu = await testDevice()
const lanes = gpu.traits.subgroupSize

/**
 * A kernel that does everything a row kernel can: of a row x its largest and its last element, log Σ eˣ, the entropy of
 * softmax(x), and x / √Σ x².
 */
const kernel: RowKernel = {
  name: "rows under test",
  block: 32,
  value: "x[at]",
  params: { scale: "f32" },
  buffers: [
    reads("x", "T"),
    reads("weight", "T"),
    writes("out", "T"),
    writes("lse"),
    writes("last"),
    writes("entropy"),
    writes("most"),
  ],
  body: ({ fold, exponentials, each, once, element }) => `
  ${fold([largest("highest", "v")])}
  ${exponentials((at) => `x[${at}]`, { energy: true })}
  ${fold([{ name: "squares", next: (sum, of) => `fma(${of("v")}, ${of("v")}, ${sum})` }])}
  let factor = p.scale * inverseSqrt(squares);
  ${each(["factor"], "out[at] = v * factor * w;", "let w = weight[k];")}
  ${once(`lse[row] = top + log(total); last[row] = ${element("x", "(p.width - 1u)")};
  entropy[row] = log(total) - energy / total; most[row] = highest;`)}`,
}

const op: FusedOp<RowForm> = {
  name: "rows under test",
  infer: ([x]) => [x!, ...Array.from({ length: 4 }, () => ({ shape: [x!.shape[0]!], dtype: "f32" }) as const)],
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
    ...(vector ? holders(width) : []),
  ])

/** Rows held in registers, and what is found of them shared through subgroups and through workgroup memory. */
const holders = (width: number): readonly RowForm[] =>
  (lanes > 0 ? [lanes, 0] : [0]).flatMap((through) => {
    const together = through || 32
    const threads = Math.ceil(width / 32 / together) * together
    const fits = threads <= (through > 0 ? 256 : 96)
    return fits ? [{ by: "holders", threads, vector: true, lanes: through, whole: width === 32 * threads }] : []
  })

describe("a row kernel", () => {
  test.each([
    [1, 1],
    [3, 5],
    [2, 64],
    [9, 66],
    [17, 128],
    [3, 132],
    [2, 256],
    [5, 1024],
    [2, 3072],
    [2, 4999],
    [1, 5000],
  ])("%i rows of %i: every form gives the same bits", async (rows, width) => {
    const x = randomArray(rows * width, 1, -3, 3)
    const weight = randomArray(width, 2)
    const results = forms(width).map((form) => applyFused(op, [gpu.tensor(x, [rows, width]), gpu.tensor(weight)], form))
    const arrays = await gpu.readAll(results.flat())
    const [out, lse, last, entropy, most] = arrays as Float32Array[]
    arrays.forEach((array, i) =>
      expectSameBits(array, arrays[i % 5]!, `${JSON.stringify(forms(width)[Math.floor(i / 5)])} output ${i % 5}`),
    )
    for (let row = 0; row < rows; row++) {
      const own = [...x.subarray(row * width, (row + 1) * width)]
      const norm = Math.sqrt(own.reduce((sum, v) => sum + v * v, 0))
      const total = own.reduce((sum, v) => sum + Math.exp(v), 0)
      expect(last![row]).toBe(own.at(-1))
      expect(most![row]).toBe(Math.max(...own))
      expectClose([lse![row]!], [Math.log(total)], { abs: 1e-5, rel: 1e-5 })
      const expected = own.reduce((sum, v) => sum - (Math.exp(v) / total) * (v - Math.log(total)), 0)
      expectClose([entropy![row]!], [expected], { abs: 1e-5, rel: 1e-5 })
      expectClose(
        out!.subarray(row * width, (row + 1) * width),
        own.map((v, i) => ((2 * v) / norm) * weight[i]!),
        { abs: 1e-5, rel: 1e-5 },
      )
    }
  })

  test("exponentials neither overflow nor vanish, wherever the largest element stands", async () => {
    const width = 200
    for (const at of [0, 5, 63, 64, 199]) {
      const x = Float32Array.from({ length: width }, (_, i) => (i === at ? 3000 : i % 2 === 0 ? -3000 : -1e30))
      for (const form of forms(width)) {
        const outputs = applyFused(op, [gpu.tensor(x, [1, width]), gpu.ones([width])], form)
        const [, lse, , entropy] = await gpu.readAll(outputs)
        expect([...lse!, ...entropy!], `${at}, ${JSON.stringify(form)}`).toEqual([3000, 0])
      }
    }
  })

  test("takes the form that suits the device", () => {
    const forms: Forms = { rows: "held", attention: "workgroup" }
    const [cpu, graphics] = [
      { isSoftware: true, subgroupSize: 8, forms },
      { isSoftware: false, subgroupSize: 32, forms },
    ]
    const unheld: RowKernel = { ...kernel, block: 64 }
    expect(rowForm(unheld, 64, 1024, cpu)).toEqual({ by: "lane", threads: 8, vector: true })
    expect(rowForm(unheld, 64, 1023, { ...cpu, subgroupSize: 0 })).toEqual({
      by: "invocation",
      threads: 64,
      vector: false,
    })
    expect(rowForm(unheld, 1, 50_000, cpu)).toEqual({ by: "workgroup", threads: 256, vector: true })
    expect(rowForm(unheld, 64, 1024, graphics)).toEqual({ by: "workgroup", threads: 64, vector: true })
    expect(rowForm(unheld, 64, 32, graphics)).toEqual({ by: "invocation", threads: 64, vector: true })
    const held = { by: "holders", vector: true } as const
    expect(rowForm(kernel, 64, 1024, cpu)).toEqual({ ...held, threads: 32, lanes: 8, whole: true })
    expect(rowForm(kernel, 1, 1000, graphics)).toEqual({ ...held, threads: 32, lanes: 0, whole: false })
    expect(rowForm(kernel, 1, 3072, graphics)).toEqual({ ...held, threads: 96, lanes: 0, whole: true })
    expect(rowForm(kernel, 1, 3076, graphics)).toEqual({ by: "workgroup", threads: 64, vector: true })
    expect(rowForm(kernel, 1, 8192, cpu)).toEqual({ ...held, threads: 256, lanes: 8, whole: true })
    expect(rowForm(kernel, 64, 1022, cpu)).toEqual({ by: "lane", threads: 8, vector: false })
    expect(rowForm(kernel, 64, 1024, { ...cpu, forms: { ...forms, rows: "walked" } })).toEqual({
      by: "lane",
      threads: 8,
      vector: true,
    })
    expect(rowForm(kernel, 64, 64, cpu)).toEqual({ by: "lane", threads: 8, vector: true })
    expect(rowForm(kernel, 64, 10_000, graphics)).toEqual({ by: "workgroup", threads: 256, vector: true })
  })
})
