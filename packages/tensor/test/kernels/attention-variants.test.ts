import { describe, expect, test } from "vitest"
import { applyFused } from "../../src/graph/apply.ts"
import type { FusedOp } from "../../src/graph/fused-op.ts"
import type { Tensor } from "../../src/graph/tensor.ts"
import { plainKeyGradient, plainQueryGradient } from "../../src/kernels/attention/plain-gradient.ts"
import { plainAttention } from "../../src/kernels/attention/plain.ts"
import type { AttentionLaunch, AttentionProblem } from "../../src/kernels/attention/problem.ts"
import { subgroupKeyGradient, subgroupQueryGradient } from "../../src/kernels/attention/subgroup-gradient.ts"
import { queryTile, type QueryTile } from "../../src/kernels/attention/subgroup-queries.ts"
import { subgroupAttention } from "../../src/kernels/attention/subgroup.ts"
import { tiledKeyGradient } from "../../src/kernels/attention/tiled-keys.ts"
import { tiledAttention, tiledQueryGradient } from "../../src/kernels/attention/tiled.ts"
import { testDevice } from "../device.ts"
import { expectSameBits, randomArray } from "../reference.ts"

const gpu = await testDevice()
const lanes = gpu.traits.subgroupSize

type Form = (problem: AttentionProblem) => AttentionLaunch
type Span = readonly [prefixBase: number, prefixLength: number, ownBase: number, keyCount: number]

const forwardOp: FusedOp<{ readonly problem: AttentionProblem; readonly form: Form }> = {
  name: "attention by a chosen kernel",
  infer: ([q], { problem }) => [q!, { shape: [problem.rows, problem.heads], dtype: "f32" }],
  lower: (emit, inputs, outputs, { problem, form }) => {
    const { kernel, params, grid } = form(problem)
    emit.launch(kernel, [...inputs, ...outputs], params, grid)
  },
}

interface Gradients {
  readonly queries: Form
  readonly keys: Form
}

const queryGradientOp: FusedOp<{ readonly problem: AttentionProblem; readonly form: Form }> = {
  ...forwardOp,
  name: "attention query gradient by a chosen kernel",
}

const keyGradientOp: FusedOp<{ readonly problem: AttentionProblem; readonly form: Form }> = {
  ...forwardOp,
  name: "attention key gradient by a chosen kernel",
  infer: ([, kv]) => [kv!],
}

const bySubgroup =
  (tile: (problem: AttentionProblem) => QueryTile): Form =>
  (problem) =>
    subgroupAttention(problem, lanes, tile(problem))

/** The forward kernels that this adapter can run, the plain one first. */
const forms: Readonly<Record<string, Form>> = {
  plain: (problem) => plainAttention(problem, gpu.traits.isSoftware),
  tiles: tiledAttention,
  ...((lanes === 4 || lanes === 8) && {
    "a subgroup to several rows": bySubgroup((problem) => queryTile(problem, lanes)),
    "a subgroup to a row": bySubgroup((problem) => queryTile(problem, lanes, { alone: true })),
    "a subgroup to one head of three rows": bySubgroup(() => ({ rows: 3, parts: 1 })),
  }),
}

type Shape = Omit<AttentionProblem, "rows" | "scale">
const shape: Shape = { heads: 4, kvHeads: 2, headDim: 8, window: undefined, softCap: undefined }
const wide: Shape = { heads: 6, kvHeads: 2, headDim: 36, window: 21, softCap: 1.5 }

const gradients: Readonly<Record<string, Gradients>> = {
  plain: {
    queries: (problem) => plainQueryGradient(problem, gpu.traits.isSoftware),
    keys: (problem) => plainKeyGradient(problem, gpu.traits.isSoftware),
  },
  tiles: { queries: tiledQueryGradient, keys: tiledKeyGradient },
  ...((lanes === 4 || lanes === 8) && {
    subgroup: {
      queries: (problem) => subgroupQueryGradient(problem, lanes, queryTile(problem, lanes, { most: lanes })),
      keys: (problem) => subgroupKeyGradient(problem, lanes, lanes),
    },
  }),
}

const packed = (lengths: readonly number[]): Span[] => {
  let base = 0
  return lengths.flatMap((length) => {
    const own = base
    base += length
    return Array.from({ length }, (_, i): Span => [0, 0, own, i + 1])
  })
}

/** Rows of several sequences over shared prefixes, in the order in which a decoder may hold them. */
const scattered: readonly Span[] = [
  [3, 40, 60, 41],
  [3, 40, 60, 42],
  [3, 40, 60, 43],
  [3, 40, 70, 43],
  [3, 40, 80, 97],
  [0, 0, 99, 1],
  [5, 1, 7, 33],
  [5, 0, 7, 32],
  [0, 64, 64, 64],
  [0, 64, 64, 100],
]

const spanTensor = (spans: readonly Span[]): Tensor => gpu.tensor(new Int32Array(spans.flat()), [spans.length, 4])

const expectSame = (values: readonly ArrayLike<number>[], first: readonly ArrayLike<number>[], what: string): void =>
  values.forEach((value, i) => expectSameBits(value, first[i]!, what))

describe("every kernel of attention gives the same bits", () => {
  test.each<[string, Shape, readonly Span[]]>([
    ["packed sequences", shape, packed([1, 70, 9])],
    ["a window", { ...shape, window: 33 }, packed([50, 20])],
    ["a window of one key", { ...shape, window: 1 }, packed([35, 2])],
    ["prefixes", shape, scattered],
    ["prefixes and a window", { ...shape, window: 34 }, scattered],
    ["a head of 4", { ...shape, heads: 1, kvHeads: 1, headDim: 4 }, packed([5, 33])],
    ["three heads of 36 to a key head, a window and a soft cap", wide, packed([3, 90])],
  ])("%s", async (_, shape, spans) => {
    const problem = { ...shape, rows: spans.length, scale: 0.5 }
    const keys = Math.max(100, spans.length)
    const width = 2 * shape.kvHeads * shape.headDim
    const q = gpu.tensor(randomArray(spans.length * shape.heads * shape.headDim, 1, -2, 2), [
      spans.length,
      shape.heads * shape.headDim,
    ])
    const kv = gpu.tensor(randomArray(keys * width, 2, -2, 2), [keys, width])
    const results = Object.entries(forms).map(([name, form]) => ({
      name,
      outputs: applyFused(forwardOp, [q, kv, spanTensor(spans)], { problem, form }),
    }))
    const [first, ...rest] = await Promise.all(results.map(({ outputs }) => gpu.readAll(outputs)))
    rest.forEach((values, i) => expectSame(values, first!, results[i + 1]!.name))
  })

  test("keys that a query does not see change none of its bits, be they not numbers", async () => {
    const problem = { heads: 2, kvHeads: 1, headDim: 8, rows: 40, scale: 0.5, window: 20, softCap: undefined }
    const spans = spanTensor(packed([40]))
    const q = gpu.tensor(randomArray(40 * 16, 1, -2, 2), [40, 16])
    const clean = randomArray(40 * 16, 2, -2, 2)
    const dirty = clean.slice()
    dirty.fill(Number.NaN, 37 * 16, 38 * 16)
    for (const [name, form] of Object.entries(forms)) {
      const run = (data: Float32Array<ArrayBuffer>) =>
        gpu.readAll(applyFused(forwardOp, [q, gpu.tensor(data, [40, 16]), spans], { problem, form }))
      const [[expected], [out]] = await Promise.all([run(clean), run(dirty)])
      expectSameBits(out!.subarray(0, 37 * 16), expected!.subarray(0, 37 * 16), name)
      expect([...out!.subarray(37 * 16)].every(Number.isNaN), name).toBe(true)
    }
  })
})

test.each<[string, Shape, readonly number[]]>([
  ["packed sequences", { ...wide, window: undefined }, [1, 70, 9, 2]],
  ["a window", wide, [50, 20]],
])("every kernel gives the same bits of the gradient: %s", async (_, shape, lengths) => {
  const spans = packed(lengths)
  const rows = spans.length
  const problem = { ...shape, rows, scale: 0.5 }
  const [wideQ, wideKv] = [shape.heads * shape.headDim, 2 * shape.kvHeads * shape.headDim]
  const [q, kv, grad] = [
    gpu.tensor(randomArray(rows * wideQ, 1, -2, 2), [rows, wideQ]),
    gpu.tensor(randomArray(rows * wideKv, 2, -2, 2), [rows, wideKv]),
    gpu.tensor(randomArray(rows * wideQ, 3), [rows, wideQ]),
  ]
  const span = spanTensor(spans)
  const [o, lse] = applyFused(forwardOp, [q, kv, span], { problem, form: forms.plain! })
  const results = Object.entries(gradients).map(([name, { queries, keys }]) => {
    const [dq, delta] = applyFused(queryGradientOp, [q, kv, span, o!, lse!, grad], { problem, form: queries })
    const [dkv] = applyFused(keyGradientOp, [q, kv, span, lse!, delta!, grad], { problem, form: keys })
    return { name, outputs: [dq!, delta!, dkv!] }
  })
  const [first, ...rest] = await Promise.all(results.map(({ outputs }) => gpu.readAll(outputs)))
  rest.forEach((values, i) => expectSame(values, first!, results[i + 1]!.name))
})
