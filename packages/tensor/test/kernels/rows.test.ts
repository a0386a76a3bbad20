import { describe, expect, test } from "vitest"
import { applyFused } from "../../src/graph/apply.ts"
import type { Forms, FusedOp } from "../../src/graph/fused-op.ts"
import { largest, rowForm, rowLaunch, type RowForm, type RowKernel } from "../../src/kernels/rows/launch.ts"
import { reads, writes } from "../../src/program/kernel.ts"
import { testDevice } from "../device.ts"
import { expectClose, expectSameBits, randomArray } from "../reference.ts"

const gpu = await testDevice()
const lanes = gpu.traits.subgroupSize

/** A kernel that walks its rows: of a row x its last element, log Σ eˣ, the entropy of softmax(x), moments, and x / √Σ x². */
const walks: RowKernel = {
  name: "walked rows under test",
  block: 32,
  params: { scale: "f32" },
  buffers: [
    reads("x", "T"),
    reads("weight", "T"),
    writes("out", "T"),
    writes("lse"),
    writes("last"),
    writes("entropy"),
    writes("mean"),
    writes("deviation"),
  ],
  body: ({ fold, exponentials, moments, each, once, element }) => `
  ${moments((at) => `x[${at}]`)}
  ${exponentials((at) => `x[${at}]`, { energy: true })}
  ${fold([{ name: "lengths", next: (sum, of) => `fma(${of("v")}, ${of("v")}, ${sum})` }], "let v = x[at];")}
  let factor = p.scale * inverseSqrt(lengths);
  ${each(["factor"], "out[at] = x[at] * factor * w;", "let w = weight[k];")}
  ${once(`lse[row] = top + log(total); last[row] = ${element("x", "(p.width - 1u)")};
  entropy[row] = log(total) - energy / total; mean[row] = center; deviation[row] = sqrt(squares / f32(p.width));`)}`,
}

/** One whose rows can be held: of a row x its largest, smallest and last element, Σ x, and x / √Σ x². */
const holds: RowKernel = {
  name: "held rows under test",
  block: 32,
  value: "x[at]",
  params: { scale: "f32" },
  buffers: [
    reads("x", "T"),
    reads("weight", "T"),
    writes("out", "T"),
    writes("most"),
    writes("least"),
    writes("last"),
    writes("total"),
  ],
  body: ({ fold, each, once, element }) => `
  ${fold([largest("highest", "v"), largest("lowestNegated", "-v")])}
  ${fold([
    { name: "squares", next: (sum, of) => `fma(${of("v")}, ${of("v")}, ${sum})` },
    { name: "sum", next: (sum, of) => `${sum} + ${of("v")}` },
  ])}
  let factor = p.scale * inverseSqrt(squares);
  ${each(["factor"], "out[at] = v * factor * w;", "let w = weight[k];")}
  ${once(`most[row] = highest; least[row] = -lowestNegated; last[row] = ${element("x", "(p.width - 1u)")};
  total[row] = sum;`)}`,
}

const opOf = (kernel: RowKernel): FusedOp<RowForm> => ({
  name: kernel.name,
  infer: ([x]) => [
    x!,
    ...Array.from({ length: kernel.buffers.length - 3 }, () => ({ shape: [x!.shape[0]!], dtype: "f32" }) as const),
  ],
  lower: (emit, inputs, outputs, form) => {
    const [rows, width] = inputs[0]!.spec.shape as [number, number]
    const { kernel: wgsl, grid } = rowLaunch(kernel, rows, form)
    emit.launch(wgsl, [...inputs, ...outputs], [rows, width, 2], grid)
  },
})

const walking = (width: number): readonly RowForm[] =>
  [false, ...(width % 4 === 0 ? [true] : [])].flatMap((vector) => [
    { by: "invocation", threads: 64, vector },
    { by: "workgroup", threads: 64, vector },
    ...(lanes > 0 ? [{ by: "lane", threads: lanes, vector } as const] : []),
  ])

/** Rows held in registers, and what is found of them shared through subgroups and through workgroup memory. */
const holding = (width: number): readonly RowForm[] =>
  (lanes === 8 ? [lanes, 0] : [0]).flatMap((through) => {
    const together = through || 32
    const threads = Math.ceil(width / 32 / together) * together
    const fits = width % 4 === 0 && threads <= (through > 0 ? 256 : 96)
    return fits ? [{ by: "holders", threads, vector: true, lanes: through, whole: width === 32 * threads }] : []
  })

const sizes = [
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
  [1, 8192],
] as const

/** What every form computes, held to be the same bits, in rows beside x's. */
const computed = async (
  kernel: RowKernel,
  forms: readonly RowForm[],
  x: Float32Array<ArrayBuffer>,
  weight: Float32Array<ArrayBuffer>,
) => {
  const width = weight.length
  const rows = x.length / width
  const results = forms.map((form) =>
    applyFused(opOf(kernel), [gpu.tensor(x, [rows, width]), gpu.tensor(weight)], form),
  )
  const arrays = (await gpu.readAll(results.flat())) as Float32Array[]
  const outputs = results[0]!.length
  arrays.forEach((array, i) =>
    expectSameBits(
      array,
      arrays[i % outputs]!,
      `${JSON.stringify(forms[Math.floor(i / outputs)])}, output ${i % outputs}`,
    ),
  )
  const [out, ...ofRow] = arrays.slice(0, outputs)
  return Array.from({ length: rows }, (_, row) => {
    const part = [row * width, (row + 1) * width] as const
    return { own: [...x.subarray(...part)], mapped: out!.subarray(...part), found: ofRow.map((values) => values[row]!) }
  })
}

const within = { abs: 1e-5, rel: 1e-5 }
const scaled = (own: readonly number[], weight: Float32Array): number[] => {
  const norm = Math.sqrt(own.reduce((sum, v) => sum + v * v, 0))
  return own.map((v, i) => ((2 * v) / norm) * weight[i]!)
}

describe("a row kernel", () => {
  test.each(sizes)("%i rows of %i, walked: every form gives the same bits", async (rows, width) => {
    const [x, weight] = [randomArray(rows * width, 1, -3, 3), randomArray(width, 2)]
    for (const { own, mapped, found } of await computed(walks, walking(width), x, weight)) {
      const [lse, last, entropy, mean, deviation] = found
      const total = own.reduce((sum, v) => sum + Math.exp(v), 0)
      expect(last).toBe(own.at(-1))
      expectClose([lse!], [Math.log(total)], within)
      const expected = own.reduce((sum, v) => sum - (Math.exp(v) / total) * (v - Math.log(total)), 0)
      expectClose([entropy!], [expected], within)
      const center = own.reduce((sum, v) => sum + v, 0) / width
      const squares = own.reduce((sum, v) => sum + (v - center) ** 2, 0)
      expectClose([mean!, deviation!], [center, Math.sqrt(squares / width)], within)
      expectClose(mapped, scaled(own, weight), within)
    }
  })

  test.each(sizes)("%i rows of %i, walked or held: every form gives the same bits", async (rows, width) => {
    const [x, weight] = [randomArray(rows * width, 1, -3, 3), randomArray(width, 2)]
    const forms = [...walking(width), ...holding(width)]
    for (const { own, mapped, found } of await computed(holds, forms, x, weight)) {
      const [most, least, last, sum] = found
      expect([most, least, last]).toEqual([Math.max(...own), Math.min(...own), own.at(-1)])
      expectClose([sum!], [own.reduce((all, v) => all + v, 0)], { abs: 1e-4, rel: 1e-5 })
      expectClose(mapped, scaled(own, weight), within)
    }
  })

  test("moments neither cancel nor overflow, wherever the mean lies", async () => {
    const width = 200
    for (const [far, rest] of [
      [1000, 1000],
      [1e6, 0],
      [0, 1e18],
    ] as const) {
      const x = randomArray(width, 3, -1, 1).map((v, i) => v + (i === 0 ? far : rest))
      const center = x.reduce((sum, v) => sum + v, 0) / width
      const deviation = Math.sqrt(x.reduce((sum, v) => sum + (v - center) ** 2, 0) / width)
      for (const form of walking(width)) {
        const outputs = applyFused(opOf(walks), [gpu.tensor(x, [1, width]), gpu.ones([width])], form)
        const found = await gpu.readAll(outputs)
        // √200 roundings of a deviation, as `momentParts` says.
        expectClose([found[4]![0]!, found[5]![0]!], [center, deviation], { abs: 8.5e-7 * deviation, rel: 1e-6 })
      }
    }
  })

  test("refuses exponentials of rows that can be held", () => {
    const body: RowKernel["body"] = ({ exponentials }) => exponentials((at) => `x[${at}]`)
    const form = { by: "workgroup", threads: 64, vector: false } as const
    expect(() => rowLaunch({ ...holds, body }, 1, form).kernel.body()).toThrow("rows that can be held are folded")
  })

  test("exponentials neither overflow nor vanish, wherever the largest element stands", async () => {
    const width = 200
    for (const at of [0, 5, 63, 64, 199]) {
      const x = Float32Array.from({ length: width }, (_, i) => (i === at ? 3000 : i % 2 === 0 ? -3000 : -1e30))
      for (const form of walking(width)) {
        const outputs = applyFused(opOf(walks), [gpu.tensor(x, [1, width]), gpu.ones([width])], form)
        const [, lse, , entropy] = await gpu.readAll(outputs)
        expect([...lse!, ...entropy!], `${at}, ${JSON.stringify(form)}`).toEqual([3000, 0])
      }
    }
  })

  test("takes the form that suits the device", () => {
    const forms: Forms = { rows: "held", attention: "workgroup" }
    const [cpu, graphics] = [
      { isSoftware: true, subgroupSize: 8, numbersSubgroups: true, forms },
      { isSoftware: false, subgroupSize: 32, numbersSubgroups: true, forms },
    ]
    const unheld: RowKernel = { ...holds, block: 64 }
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
    expect(rowForm(holds, 64, 1024, cpu)).toEqual({ ...held, threads: 32, lanes: 8, whole: true })
    expect(rowForm(holds, 1, 1000, graphics)).toEqual({ ...held, threads: 32, lanes: 0, whole: false })
    expect(rowForm(holds, 1, 3072, graphics)).toEqual({ ...held, threads: 96, lanes: 0, whole: true })
    expect(rowForm(holds, 1, 3076, graphics)).toEqual({ by: "workgroup", threads: 64, vector: true })
    expect(rowForm(holds, 1, 8192, cpu)).toEqual({ ...held, threads: 256, lanes: 8, whole: true })
    expect(rowForm(holds, 64, 1022, cpu)).toEqual({ by: "lane", threads: 8, vector: false })
    expect(rowForm(holds, 64, 1024, { ...cpu, forms: { ...forms, rows: "walked" } })).toEqual({
      by: "lane",
      threads: 8,
      vector: true,
    })
    expect(rowForm(holds, 64, 1024, { ...cpu, numbersSubgroups: false })).toEqual({
      ...held,
      threads: 32,
      lanes: 0,
      whole: true,
    })
    expect(rowForm(holds, 64, 64, cpu)).toEqual({ by: "lane", threads: 8, vector: true })
    expect(rowForm(holds, 64, 10_000, graphics)).toEqual({ by: "workgroup", threads: 256, vector: true })
  })
})
