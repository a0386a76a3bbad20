import { describe, expect, test } from "vitest"
import {
  adamw,
  embedding,
  gluLinear,
  grad,
  linear,
  logProbsOf,
  ShapeError,
  TensorError,
  tokenLogProbs,
  type PackedType,
  type QuantizedType,
  type Tensor,
} from "../../src/index.ts"
import { applyFused } from "../../src/graph/apply.ts"
import type { FusedOp } from "../../src/graph/fused-op.ts"
import { bySubgroup } from "../../src/kernels/matmul/choice.ts"
import {
  plainMatmul,
  subgroupMatmul,
  tiledMatmul,
  type Layout,
  type MatmulLaunch,
  type Problem,
} from "../../src/kernels/matmul/launch.ts"
import { layInPanels } from "../../src/kernels/matmul/panels.ts"
import { testDevice } from "../device.ts"
import { expectSameBits, randomArray, randomNumbers } from "../reference.ts"

const gpu = await testDevice()

/** A tensor of packed weights, and by another way the numbers that it stands for. */
interface Packed {
  readonly tensor: Tensor
  readonly values: Float32Array<ArrayBuffer>
}

/** A number with few enough digits that its products with the whole numbers of a type are exact, as those of files are. */
const shortNumber = (next: () => number): number => Math.round((next() * 2 - 1) * 1024) / 16384

const quantized = (dtype: QuantizedType, shape: readonly number[], seed: number): Packed => {
  const next = randomNumbers(seed)
  const [name, group, offset] = dtype.split(":")
  const bits = name!.endsWith("8") ? 8 : 4
  const size = shape.reduce((a, b) => a * b, 1)
  const values = new Float32Array(size)
  const bytes: number[] = []
  const float = (value: number) => bytes.push(...new Uint8Array(Float32Array.of(value).buffer))
  for (let start = 0; start < size; start += Number(group)) {
    const [scale, low] = [shortNumber(next), offset ? Math.fround(next() - 0.5) : undefined]
    float(scale)
    if (low !== undefined) float(low)
    let pending: number | undefined
    for (let i = start; i < start + Number(group); i++) {
      const code = Math.floor(next() * 2 ** bits)
      const q = name!.startsWith("u") || code < 2 ** (bits - 1) ? code : code - 2 ** bits
      values[i] = low === undefined ? scale * q : Math.fround(scale * q) + low
      if (bits === 8) bytes.push(code)
      else if (pending === undefined) pending = code
      else {
        bytes.push(pending | (code << 4))
        pending = undefined
      }
    }
  }
  return { tensor: gpu.quantized(new Uint32Array(Uint8Array.from(bytes).buffer), shape, dtype), values }
}

/** Every third element of an f16 is below its normal numbers. */
const half = (dtype: "f16" | "bf16", shape: readonly number[], seed: number): Packed => {
  const size = shape.reduce((a, b) => a * b, 1)
  const next = randomNumbers(seed)
  const values = Float32Array.from({ length: size }, (_, i) =>
    dtype === "f16" && i % 3 === 0 ? Math.round(next() * 1023) * 2 ** -24 : Math.round((next() * 2 - 1) * 128) / 128,
  )
  const bits = Uint16Array.from(values, (value, i) => {
    if (dtype === "bf16") return new Uint32Array(Float32Array.of(value).buffer)[0]! >>> 16
    if (i % 3 === 0) return value * 2 ** 24
    if (value === 0) return 0
    const exponent = Math.floor(Math.log2(Math.abs(value)))
    return (value < 0 ? 0x8000 : 0) | ((exponent + 15) << 10) | Math.round((Math.abs(value) / 2 ** exponent - 1) * 1024)
  })
  return { tensor: gpu.half(bits, shape, dtype), values }
}

const packed = (dtype: PackedType, shape: readonly number[], seed = 1): Packed =>
  dtype === "f16" || dtype === "bf16" ? half(dtype, shape, seed) : quantized(dtype, shape, seed)

const types = ["f16", "bf16", "int8:32", "int8:16", "int4:32", "int8:16:offset", "uint4:32:offset"] as const

describe("packed weights", () => {
  test.each(types)("%s: the numbers that a tensor stands for, on the host and on the GPU", async (dtype) => {
    const { tensor, values } = packed(dtype, [6, 96])
    const slice = tensor.slice([1, 3], [5, 90])
    const [own, cast, doubled, part] = await gpu.readAll([tensor, tensor.cast("f32"), tensor.mul(2), slice])
    expectSameBits(own!, values)
    expectSameBits(cast!, values)
    expect([...doubled!]).toEqual(Array.from(values, (value) => value * 2))
    expect([...part!]).toEqual([...values.slice(96 + 5, 96 + 90), ...values.slice(192 + 5, 192 + 90)])
  })

  test("take the bytes that they need, up to the allocator's rounding", () => {
    const bytes = { f16: 2, bf16: 2, "int8:32": 1.125, "int8:16": 1.25, "int4:32": 0.625, "uint4:32:offset": 0.75 }
    for (const [dtype, each] of Object.entries(bytes)) {
      const before = gpu.memory().inUse
      const { tensor } = packed(dtype as PackedType, [64, 1024])
      const taken = (gpu.memory().inUse - before) / (64 * 1024)
      tensor.dispose()
      expect(taken, dtype).toBeGreaterThanOrEqual(each)
      expect(taken, dtype).toBeLessThan(each * 1.25)
    }
  })
})

describe("a product with packed weights", () => {
  /** A product by a kernel of the test's choice; with a gate, what that lets through too. */
  const chosenMatmul: FusedOp<{ readonly problem: Problem; readonly choose: (problem: Problem) => MatmulLaunch }> = {
    name: "matmul by a chosen kernel",
    readsPacked: [0, 1],
    infer: (_, { problem: { M, N, gate } }) => [
      { shape: [M, N], dtype: "f32" },
      ...(gate ? [{ shape: [M, N / 2], dtype: "f32" as const }] : []),
    ],
    lower: (emit, [a, b], outputs, { problem, choose }) => {
      const { kernel, params, grid } = choose({ ...problem, stored: { a: a!.spec.dtype, b: b!.spec.dtype } })
      emit.launch(kernel, [a!, b!, ...outputs], params, grid)
    },
  }

  const lanes = gpu.traits.subgroupSize
  const kernels: Readonly<Record<string, (problem: Problem) => MatmulLaunch>> = {
    plain: plainMatmul,
    tiles: (problem) => tiledMatmul(problem, { rows: 8, columns: 128, perRow: 4, perColumn: 2 }),
    ...(lanes > 0 && {
      "subgroup, fours": (problem) =>
        subgroupMatmul(problem, lanes, { rows: 8, quads: 2, depth: 4, accumulators: "registers" }),
      "subgroup, pairs": (problem) =>
        subgroupMatmul(problem, lanes, { rows: 8, quads: 2, depth: 2, accumulators: "memory" }),
    }),
  }
  /** Kernels of GPUs, and gates, take software drivers long to compile. */
  const tiled: readonly PackedType[] = ["bf16", "uint4:32:offset"]
  const gated: readonly PackedType[] = ["f16", "int8:16:offset"]

  const sizes = [
    { M: 1, N: 64, K: 96 },
    { M: 33, N: 32, K: 64 },
  ]

  const inEveryKernel = types.filter((dtype) => dtype !== "int8:16")

  test.each(inEveryKernel)(
    "%s: has the bits of the product with the same numbers in f32, in every kernel",
    async (dtype) => {
      const problems = sizes.flatMap((size): readonly Problem[] => [
        { layout: "nt", epilogue: "store", ...size },
        { layout: "nn", epilogue: "store", ...size },
        ...(gated.includes(dtype) ? [{ layout: "nt", epilogue: "store", ...size, gate: "silu" } as const] : []),
      ])
      for (const problem of problems) {
        const { M, N, K, layout } = problem
        const x = gpu.tensor(randomArray(M * K, 2), [M, K])
        const shape = layout === "nt" ? [N, K] : [K, N]
        const { tensor, values } = packed(dtype, shape)
        const run = (choose: (problem: Problem) => MatmulLaunch, weight: Tensor) =>
          applyFused(chosenMatmul, [x, weight], { problem, choose })
        const names = Object.keys(kernels).filter((name) => name !== "tiles" || tiled.includes(dtype))
        const expected = await gpu.readAll(run(plainMatmul, gpu.tensor(values, shape)))
        for (const name of names) {
          const results = await gpu.readAll(run(kernels[name]!, tensor))
          results.forEach((result, i) => expectSameBits(result, expected[i]!, `${layout} ${M}×${N}×${K} ${name}, ${i}`))
        }
      }
    },
  )

  test.runIf(lanes > 0).each(["bf16", "int8:32", "uint4:32:offset"] as const)(
    "%s: has them with operands laid out in panels",
    async (dtype) => {
      const tile = bySubgroup(lanes, { rows: 32, quads: 2, depth: 2, accumulators: "memory" })
      const inPanels: FusedOp<Problem> = {
        name: "matmul with operands in panels",
        readsPacked: [1],
        infer: (_, { M, N }) => [{ shape: [M, N], dtype: "f32" }],
        lower: (emit, [a, b], [out], whole) => {
          const stored = { a: a!.spec.dtype, b: b!.spec.dtype }
          const { problem, ...laid } = layInPanels(emit, { ...whole, stored }, tile, { a: a!, b: b! })
          const { kernel, params, grid } = tile.launch(problem)
          emit.launch(kernel, [laid.a, laid.b, out!], params, grid)
        },
      }
      for (const layout of ["nt", "nn"] as const) {
        const [M, N, K] = [33, 96, 64]
        const shape = layout === "nt" ? [N, K] : [K, N]
        const problem: Problem = { layout, epilogue: "store", M, N, K }
        const x = gpu.tensor(randomArray(M * K, 2), [M, K])
        const { tensor, values } = packed(dtype, shape)
        const [direct, laid] = await gpu.readAll([
          ...applyFused(chosenMatmul, [x, gpu.tensor(values, shape)], { problem, choose: plainMatmul }),
          ...applyFused(inPanels, [x, tensor], problem),
        ])
        expectSameBits(laid!, direct!, layout)
      }
    },
  )

  test.each([
    ["f16", { M: 6, N: 10, K: 22 }],
    ["bf16", { M: 5, N: 7, K: 9 }],
  ] as const)("%s: on either side, transposed or not, in rows of any length", async (dtype, { M, N, K }) => {
    for (const layout of ["nn", "nt", "tn"] satisfies Layout[]) {
      const a = packed(dtype, layout === "tn" ? [K, M] : [M, K], 3)
      const b = packed(dtype, layout === "nt" ? [N, K] : [K, N], 4)
      const options = { transposeA: layout === "tn", transposeB: layout === "nt" }
      const wide = (x: Packed) => gpu.tensor(x.values, x.tensor.shape)
      const products = [a.tensor.matmul(b.tensor, options), wide(a).matmul(b.tensor, options)]
      const [expected, ...results] = await gpu.readAll([wide(a).matmul(wide(b), options), ...products])
      for (const result of results) expectSameBits(result, expected!, `${layout} ${M}×${N}×${K}`)
    }
  })

  test("makes no copy of the weights in f32", () => {
    const { tensor } = packed("int4:32", [256, 256])
    const hidden = gpu.zeros([4, 256])
    const ids = gpu.tensor(new Int32Array([1, 2, 3, 4]))
    const programs = [
      gpu.compile((x: Tensor) => linear(x, tensor)),
      gpu.compile((x: Tensor) => grad(linear(x, tensor).sum(), [x])[0]!),
      gpu.compile((x: Tensor) => embedding(tensor, ids).add(x)),
      gpu.compile((x: Tensor) => grad(tokenLogProbs(x, tensor, ids, { temperature: 1 }).logProbs.sum(), [x])[0]!),
    ]
    for (const program of programs) {
      expect(program.explain(hidden).workspaceBytes).toBeLessThan(4 * 256 * 256)
      program.dispose()
    }
  })
})

describe("layers over packed weights", () => {
  test.each(["f16", "int8:16", "uint4:32:offset"] as const)(
    "%s: linear, gated linear, embedding and log-probs, with gradients, have f32's bits",
    async (dtype) => {
      const { tensor, values } = packed(dtype, [64, 96])
      const wide = gpu.tensor(values, [64, 96])
      const data = randomArray(9 * 96, 5)
      const [bias, residual] = [gpu.tensor(randomArray(64, 6)), gpu.tensor(randomArray(9 * 64, 7), [9, 64])]
      const ids = gpu.tensor(Int32Array.from({ length: 9 }, (_, i) => (i * 11) % 64))
      const results = (weight: Tensor) => {
        const x = gpu.tensor(data, [9, 96])
        const y = linear(x, weight, { bias, residual })
        const gated = gluLinear(x, weight, "silu")
        const { logProbs, entropy } = tokenLogProbs(x, weight, ids, { temperature: 0.7, softCap: 5 })
        const loss = y.square().sum().add(gated.sum()).add(logProbs.sum()).add(entropy.mul(0.1).sum())
        const sampled = logProbsOf(linear(x, weight), ids, { temperature: 0.7 })
        return [y, gated, embedding(weight, ids), logProbs, entropy, sampled, ...grad(loss, [x])]
      }
      const expected = await gpu.readAll(results(wide))
      const actual = await gpu.readAll(results(tensor))
      actual.forEach((result, i) => expectSameBits(result, expected[i]!, `result ${i}`))
    },
  )

  test("halves have gradients, in f32", async () => {
    const { tensor, values } = packed("bf16", [8, 12])
    const ids = gpu.tensor(new Int32Array([1, 5, 1]))
    const gradient = (weight: Tensor) => {
      const x = embedding(weight, ids)
      const { logProbs } = tokenLogProbs(linear(x, weight).slice(null, [0, 8]).matmul(weight), weight, ids, {
        temperature: 1,
      })
      return grad(logProbs.sum(), [weight])[0]!
    }
    expect(gradient(tensor).dtype).toBe("f32")
    expectSameBits(await gradient(tensor).data(), await gradient(gpu.tensor(values, [8, 12])).data())
  })

  test("quantised weights have none, and cannot be trained or written to", () => {
    const { tensor } = packed("int8:32", [4, 32])
    const loss = gpu.zeros([2, 32]).matmul(tensor, { transposeB: true }).sum()
    expect(() => grad(loss, [tensor])).toThrow(/grad: int8:32 \[4, 32\] has no gradient: train an adapter beside it/)
    expect(() => adamw([tensor], { lr: 0.1 })).toThrow(/parameters must be f32, f16 or bf16, not int8:32/)
    expect(() => gpu.write(tensor, new Float32Array(128))).toThrow(/write: int8:32 is not made of single numbers/)
  })
})

describe("cast to a quantised type", () => {
  test.each(["int8:16", "int4:16", "int8:16:offset", "uint4:16:offset"] as const)(
    "%s: off by no more than half a step of the group",
    async (dtype) => {
      const weights = randomArray(3 * 64, 8, -2, 2)
      weights.fill(0, 64, 96)
      const bits = dtype.startsWith("int8") ? 8 : 4
      const restored = await gpu.tensor(weights, [3, 64]).cast(dtype).data()
      restored.forEach((value, i) => {
        const group = weights.subarray(i - (i % 16), i - (i % 16) + 16)
        const [low, high] = [Math.min(...group), Math.max(...group)]
        const step = dtype.endsWith("offset")
          ? (high - low) / (2 ** bits - 1)
          : Math.max(-low, high) / (2 ** (bits - 1) - 1)
        expect(Math.abs(value - weights[i]!)).toBeLessThanOrEqual(step * 0.5001)
      })
    },
  )

  test("names what does not fit", () => {
    expect(() => gpu.zeros([2, 40]).cast("int4:32")).toThrow(/cast: int4:32 has groups of 32, .* rows of \[2, 40\]/)
    expect(() => gpu.zeros([2, 36]).cast("int4:12")).toThrow(TensorError)
    expect(() => gpu.zeros([2, 32]).cast("int4:32:offset" as "int4:32")).toThrow(/there is no "int4:32:offset"/)
    expect(() => gpu.quantized(new Uint32Array(4), [2, 32], "int8:32")).toThrow(ShapeError)
  })
})
