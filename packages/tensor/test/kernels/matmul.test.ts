import { describe, expect, test } from "vitest"
import { glu, linear, matmul, ShapeError, type Tensor } from "../../src/index.ts"
import { applyFused, applyFusedOne } from "../../src/graph/apply.ts"
import type { Emitter, FusedOp } from "../../src/graph/fused-op.ts"
import { bySubgroup, panelsFirst, type Panels } from "../../src/kernels/matmul/choice.ts"
import {
  launchMatmul,
  plainMatmul,
  subgroupMatmul,
  tiledMatmul,
  type Epilogue,
  type Layout,
  type MatmulLaunch,
  type Problem,
} from "../../src/kernels/matmul/launch.ts"
import { testDevice } from "../device.ts"
import { expectDifferentiable, param } from "../gradient.ts"
import { expectClose, expectSameBits, randomArray } from "../reference.ts"

const gpu = await testDevice()
const lanes = gpu.traits.subgroupSize

const layouts: readonly Layout[] = ["nn", "nt", "tn"]
const epilogues: readonly Epilogue[] = ["store", "residual", "accumulate"]

interface Sizes {
  readonly M: number
  readonly N: number
  readonly K: number
}

interface Choice {
  readonly problem: Problem
  readonly choose: (problem: Problem) => MatmulLaunch
}

/** A product by a kernel of the test's choice. The last input is added: as residual, or as the output's old value. */
const chosenMatmul: FusedOp<Choice> = {
  name: "matmul by a chosen kernel",
  infer: (_, { problem: { M, N, batch } }) => [{ shape: [(batch?.count ?? 1) * M, N], dtype: "f32" }],
  inPlace: ({ problem }): Readonly<Record<number, number>> => (problem.epilogue === "accumulate" ? { 0: 2 } : {}),
  lower: (emit, [a, b, other], [out], { problem, choose }) => {
    const { kernel, params, grid } = choose(problem)
    emit.launch(kernel, problem.epilogue === "residual" ? [a!, b!, other!, out!] : [a!, b!, out!], params, grid)
  },
}

/**
 * The kernels that can do a problem on this adapter, by name. Those of GPUs, which software drivers take long to compile,
 * load differently for each layout and end differently for each epilogue, but not for each pair.
 */
const variants = ({ layout, epilogue }: Problem): Record<string, (problem: Problem) => MatmulLaunch> => ({
  plain: plainMatmul,
  ...((layout === "nn" || (layout === "tn" && epilogue === "store")) && {
    tiles: (problem) => tiledMatmul(problem, { rows: 64, columns: 64, perRow: 8, perColumn: 2 }),
  }),
  ...(layout === "nt" &&
    epilogue === "store" && {
      "flat tiles": (problem) => tiledMatmul(problem, { rows: 8, columns: 128, perRow: 4, perColumn: 1 }),
    }),
  ...(lanes > 0 && {
    "subgroup, in registers": (problem) =>
      subgroupMatmul(problem, lanes, { rows: 8, quads: 1, depth: 4, accumulators: "registers" }),
    "subgroup, in memory": (problem) =>
      subgroupMatmul(problem, lanes, { rows: 16, quads: 2, depth: 2, accumulators: "memory" }),
  }),
})

const operands = (layout: Problem["layout"], { M, N, K }: Sizes) => ({
  a: { shape: layout === "tn" ? [K, M] : [M, K], data: randomArray(M * K, 1) },
  b: { shape: layout === "nt" ? [N, K] : [K, N], data: randomArray(K * N, 2) },
  other: { shape: [M, N], data: randomArray(M * N, 3) },
})

const reference = (layout: Layout, { M, N, K }: Sizes, a: ArrayLike<number>, b: ArrayLike<number>): Float64Array => {
  const out = new Float64Array(M * N)
  for (let m = 0; m < M; m++)
    for (let n = 0; n < N; n++)
      for (let k = 0; k < K; k++)
        out[m * N + n]! += a[layout === "tn" ? k * M + m : m * K + k]! * b[layout === "nt" ? n * K + k : k * N + n]!
  return out
}

describe("matmul", () => {
  const awkward: readonly Sizes[] = [
    { M: 1, N: 1, K: 1 },
    { M: 1, N: 4, K: 4 },
    { M: 3, N: 5, K: 4 },
    { M: 4, N: 16, K: 17 },
    { M: 16, N: 4, K: 3 },
    { M: 33, N: 17, K: 5 },
    { M: 8, N: 100, K: 64 },
    { M: 20, N: 36, K: 6 },
    { M: 100, N: 68, K: 36 },
    { M: 130, N: 12, K: 33 },
  ]

  /** Sizes at which every epilogue is tried: rows of single elements, pairs and fours. */
  const few = awkward.filter(({ M }) => M === 3 || M === 33 || M === 100)

  test.each(layouts)("%s: every kernel gives the same bits, with every epilogue", async (layout) => {
    for (const sizes of awkward) {
      const { a, b, other } = operands(layout, sizes)
      const product = reference(layout, sizes, a.data, b.data)
      for (const epilogue of few.includes(sizes) ? epilogues : (["store"] as const)) {
        const problem = { layout, epilogue, ...sizes }
        const at = `${layout} ${epilogue} ${sizes.M}×${sizes.N}×${sizes.K}`
        const results = Object.entries(variants(problem)).map(([name, choose]) => {
          const inputs = [gpu.tensor(a.data, a.shape), gpu.tensor(b.data, b.shape), gpu.tensor(other.data, other.shape)]
          return { name, result: applyFusedOne(chosenMatmul, inputs, { problem, choose }) }
        })
        const [first, ...rest] = await gpu.readAll(results.map(({ result }) => result))
        const expected = epilogue === "store" ? product : product.map((value, i) => value + other.data[i]!)
        expectClose(first!, expected, { abs: 2e-6 * Math.sqrt(sizes.K), rel: 2e-6 }, at)
        rest.forEach((values, i) => expectSameBits(values, first!, `${at}: ${results[i + 1]!.name}`))
      }
    }
  })

  test("every kernel that this device may choose gives the same bits", async () => {
    for (const layout of layouts) {
      const problem: Problem = { layout, epilogue: "store", M: 36, N: 68, K: 34 }
      const { a, b } = operands(layout, problem)
      const results = gpu.traits.matmul.rated[layout].map(([candidate]) => {
        const inputs = [gpu.tensor(a.data, a.shape), gpu.tensor(b.data, b.shape)]
        return { id: candidate.id, result: applyFusedOne(chosenMatmul, inputs, { problem, choose: candidate.launch }) }
      })
      const [first, ...rest] = await gpu.readAll(results.map(({ result }) => result))
      rest.forEach((values, i) => expectSameBits(values, first!, `${layout}: ${results[i + 1]!.id}`))
    }
  })

  /** Whatever the device, one on which it is always worth to lay operands out in panels. */
  const eager: Panels = {
    candidate: bySubgroup(lanes, { rows: 32, quads: 2, depth: 2, accumulators: "memory" }),
    rating: { alone: 1e9, together: 1e9 },
    making: 1e9,
    launch: 0,
    least: { products: 0, steps: 0 },
  }

  /** A product on a device that knows such panels. */
  const inPanels: FusedOp<{
    readonly problem: Problem
    readonly panels: Panels | undefined
  }> = {
    name: "matmul with operands in panels",
    infer: (_, { problem: { M, N, gate } }) => [
      { shape: [M, N], dtype: "f32" },
      ...(gate ? [{ shape: [M, N / 2], dtype: "f32" } as const] : []),
    ],
    lower: (emit, [a, b, residual], [out, gated], { problem, panels }) => {
      const launched: string[] = []
      const spy: Emitter = {
        ...emit,
        scratch: (spec) => emit.scratch(spec),
        device: { ...emit.device, matmul: { ...emit.device.matmul, panels } },
        launch: (kernel, ...rest) => {
          launched.push(kernel.name)
          emit.launch(kernel, ...rest)
        },
      }
      launchMatmul(spy, problem, { a: a!, b: b!, residual, out: out!, gated })
      expect(launched, `${problem.layout} ${problem.M}×${problem.N}×${problem.K}`).toHaveLength(panels ? 3 : 1)
    },
  }

  test.runIf(lanes > 0).each<Problem>([
    { layout: "nn", epilogue: "residual", M: 33, N: 68, K: 132 },
    { layout: "nt", epilogue: "residual", M: 36, N: 67, K: 4 },
    { layout: "tn", epilogue: "residual", M: 64, N: 132, K: 133 },
    { layout: "nt", epilogue: "store", M: 70, N: 80, K: 36, gate: "silu" },
    { layout: "nn", epilogue: "store", M: 5, N: 136, K: 8, gate: "silu" },
  ])("$layout $M × $N of $K, $epilogue: the same bits with operands in panels", async (problem) => {
    const { a, b, other } = operands(problem.layout, problem)
    const inputs = [a, b, ...(problem.epilogue === "residual" ? [other] : [])]
    const run = (panels: Panels | undefined) =>
      applyFused(
        inPanels,
        inputs.map(({ data, shape }) => gpu.tensor(data, shape)),
        { problem, panels },
      )
    const [direct, laid] = [await gpu.readAll(run(undefined)), await gpu.readAll(run(eager))]
    laid.forEach((values, i) => expectSameBits(values, direct[i]!, `output ${i}`))
  })

  test.runIf(lanes > 0)("lays out what can be read by fours, is small enough, and gains from it", () => {
    const problem: Problem = { layout: "nt", epilogue: "store", M: 512, N: 512, K: 512 }
    const choice = { ...gpu.traits.matmul, panels: eager }
    expect(panelsFirst(problem, choice)).toBe(eager)
    for (const least of [
      { products: 512 ** 3 + 1, steps: 0 },
      { products: 0, steps: 513 },
    ])
      expect(panelsFirst(problem, { ...choice, panels: { ...eager, least } })).toBeUndefined()
    for (const other of [
      { ...problem, K: 510 },
      { ...problem, layout: "tn", M: 510 },
      { ...problem, layout: "nn", N: 510 },
      { ...problem, batch: { count: 2, sharedA: false, sharedB: true } },
      { ...problem, N: 2 ** 16 },
    ] satisfies Problem[])
      expect(panelsFirst(other, choice), JSON.stringify(other)).toBeUndefined()
    const gated: Problem = { ...problem, gate: "silu" }
    expect(
      panelsFirst(gated, {
        ...choice,
        panels: { ...eager, candidate: { ...eager.candidate, gates: false } },
      }),
    ).toBeUndefined()
    expect(panelsFirst(problem, { ...choice, panels: { ...eager, launch: 1e12 } })).toBeUndefined()
    expect(panelsFirst(problem, { ...choice, panels: undefined })).toBeUndefined()
  })

  test.each([
    { M: 5, F: 12, K: 7 },
    { M: 40, F: 36, K: 34 },
  ])("$M × $F of $K, gated: every kernel gives the bits of product and gate apart", async ({ M, F, K }) => {
    const problem: Problem = { layout: "nt", epilogue: "store", M, N: 2 * F, K, gate: "silu" }
    const [x, w] = [gpu.tensor(randomArray(M * K, 1), [M, K]), gpu.tensor(randomArray(2 * F * K, 2), [2 * F, K])]
    const pairs = linear(x, w)
    const expected = await gpu.readAll([pairs, glu(pairs, "silu")])
    const chosen: FusedOp<(problem: Problem) => MatmulLaunch> = {
      name: "gated matmul by a chosen kernel",
      infer: () => [
        { shape: [M, 2 * F], dtype: "f32" },
        { shape: [M, F], dtype: "f32" },
      ],
      lower: (emit, inputs, outputs, choose) => {
        const { kernel, params, grid } = choose(problem)
        emit.launch(kernel, [...inputs, ...outputs], params, grid)
      },
    }
    const tiles = { rows: 64, columns: 64, perRow: 8, perColumn: 2 } as const
    const choices = {
      plain: plainMatmul,
      tiles: (own: Problem) => tiledMatmul(own, tiles),
      ...Object.fromEntries(
        gpu.traits.matmul.rated.nt.flatMap(([{ id, gates, launch }]) => (gates ? [[id, launch]] : [])),
      ),
    }
    for (const [name, choose] of Object.entries(choices)) {
      const results = await gpu.readAll(applyFused(chosen, [x, w], choose))
      results.forEach((values, i) => expectSameBits(values, expected[i]!, `${name}, output ${i}`))
    }
  })

  test("products of a batch have the bits of each alone, with operands that all of them share", async () => {
    const [M, N, K, count] = [20, 12, 8, 3]
    const a = randomArray(count * M * K, 1)
    const b = randomArray(K * N, 2)
    const batch = { count, sharedA: false, sharedB: true }
    const problem: Problem = { layout: "nn", epilogue: "store", M, N, K }
    const one = (choose: (problem: Problem) => MatmulLaunch, i: number) =>
      applyFusedOne(chosenMatmul, [gpu.tensor(a.slice(i * M * K, (i + 1) * M * K), [M, K]), gpu.tensor(b, [K, N])], {
        problem,
        choose,
      })
    const expected = await gpu.readAll([0, 1, 2].map((i) => one(plainMatmul, i)))
    for (const [name, choose] of Object.entries(variants(problem))) {
      const inputs = [gpu.tensor(a, [count * M, K]), gpu.tensor(b, [K, N])]
      const whole = await applyFusedOne(chosenMatmul, inputs, { problem: { ...problem, batch }, choose }).data()
      expected.forEach((part, i) =>
        expectSameBits(whole.subarray(i * M * N, (i + 1) * M * N), part, `${name}, product ${i}`),
      )
    }
  })

  test.each([
    { N: 48, K: 40 },
    { N: 21, K: 30 },
  ])("a row has the same bits in batches of 1, 7, 8 and 64, $N columns, K $K", async ({ N, K }) => {
    const x = randomArray(64 * K, 4)
    const w = gpu.tensor(randomArray(N * K, 5), [N, K])
    const rows = (count: number) => linear(gpu.tensor(x.slice(0, count * K), [count, K]), w)
    const [all, ...fewer] = await gpu.readAll([64, 1, 7, 8].map(rows))
    for (const part of fewer) expectSameBits(part, all!.subarray(0, part.length), `${part.length / N} rows`)
  })

  test("more rows than WebGPU has workgroups along an axis", async () => {
    const rows = 65_537
    const x = gpu.tensor(new Float32Array(rows).fill(2), [rows, 1])
    const y = await x.matmul(gpu.tensor([1, 2, 3], [1, 3])).data()
    expect([...y.subarray(0, 3), ...y.subarray(-3)]).toEqual([2, 4, 6, 2, 4, 6])
  })

  test.each([
    ["nn", {}, [3, 5], [5, 7]],
    ["nt", { transposeB: true }, [3, 5], [7, 5]],
    ["tn", { transposeA: true }, [5, 3], [5, 7]],
    ["tt", { transposeA: true, transposeB: true }, [5, 3], [7, 5]],
  ] as const)("%s, with gradients", async (_, options, aShape, bShape) => {
    const at = (
      transposed: boolean | undefined,
      data: Float64Array,
      rows: number,
      columns: number,
      i: number,
      j: number,
    ) => data[transposed ? j * rows + i : i * columns + j]!
    await expectDifferentiable(gpu, {
      params: [param(aShape, 6), param(bShape, 7)],
      fn: (a, b) => matmul(a, b, options),
      reference: (a, b) =>
        Float64Array.from({ length: 21 }, (_, flat) => {
          const { transposeA, transposeB } = options as { transposeA?: boolean; transposeB?: boolean }
          let sum = 0
          for (let k = 0; k < 5; k++)
            sum += at(transposeA, a, 3, 5, Math.floor(flat / 7), k) * at(transposeB, b, 5, 7, k, flat % 7)
          return sum
        }),
    })
  })

  test("names what does not fit", () => {
    expect(() => gpu.zeros([2, 3]).matmul(gpu.zeros([2, 3]))).toThrow(/matmul: \[2, 3\] and \[2, 3\] do not fit as NN/)
    expect(() => gpu.zeros([2, 3]).matmul(gpu.zeros([4]))).toThrow(ShapeError)
    expect(() => gpu.zeros([2, 3]).matmul(gpu.zeros([3, 2], "i32"))).toThrow(/matmul.*i32/)
  })
})

describe("linear", () => {
  const reference = (x: Float64Array, w: Float64Array, bias: Float64Array, residual: Float64Array) =>
    Float64Array.from({ length: 4 * 3 }, (_, flat) => {
      const [row, column] = [Math.floor(flat / 3), flat % 3]
      let sum = bias[column]! + residual[flat]!
      for (let k = 0; k < 8; k++) sum += x[row * 8 + k]! * w[column * 8 + k]!
      return sum
    })

  test("is torch.nn.Linear's product, with bias and residual, and gradients of all four", async () => {
    await expectDifferentiable(gpu, {
      params: [param([4, 8], 8), param([3, 8], 9), param([3], 10), param([4, 3], 11)],
      fn: (x: Tensor, w: Tensor, bias: Tensor, residual: Tensor) => linear(x, w, { bias, residual }),
      reference,
    })
  })

  test("names a residual that does not fit", () => {
    const call = () => linear(gpu.zeros([4, 8]), gpu.zeros([3, 8]), { residual: gpu.zeros([4, 2]) })
    expect(call).toThrow(/residual \[4, 2\] must be \[4, 3\]/)
  })
})
