import { describe, expect, test } from "vitest"
import {
  adam,
  adamw,
  clipGradNorm,
  lion,
  muon,
  orthogonalize,
  sgd,
  ShapeError,
  together,
  valueAndGrad,
  type Optimizer,
  type Tensor,
} from "../../src/index.ts"
import { testDevice } from "../device.ts"
import { expectClose, expectSameBits, randomArray, sizeOf } from "../reference.ts"

const gpu = await testDevice()

type Update = (p: Float64Array, g: Float64Array, state: Float64Array[], t: number, decay: number) => void

const each = (p: Float64Array, fn: (k: number) => void) => p.forEach((_, k) => fn(k))

/** Optimisers of PyTorch (Lion: of its paper) in float64: one parameter's step, with two moments to use. */
const references: Readonly<Record<string, { make: (params: Tensor[]) => Optimizer; lr: number; update: Update }>> = {
  sgd: {
    make: (params) => sgd(params, { lr: 0.1, weightDecay: 0.1 }),
    lr: 0.1,
    update: (p, g, _, __, decay) => each(p, (k) => (p[k]! -= 0.1 * (g[k]! + decay * p[k]!))),
  },
  "sgd with momentum": {
    make: (params) => sgd(params, { lr: 0.1, momentum: 0.9, weightDecay: 0.1 }),
    lr: 0.1,
    update: (p, g, [m], _, decay) =>
      each(p, (k) => {
        m![k] = 0.9 * m![k]! + g[k]! + decay * p[k]!
        p[k]! -= 0.1 * m![k]!
      }),
  },
  "sgd with Nesterov's momentum": {
    make: (params) => sgd(params, { lr: 0.1, momentum: 0.9, nesterov: true, weightDecay: 0.1 }),
    lr: 0.1,
    update: (p, g, [m], _, decay) =>
      each(p, (k) => {
        const d = g[k]! + decay * p[k]!
        m![k] = 0.9 * m![k]! + d
        p[k]! -= 0.1 * (d + 0.9 * m![k]!)
      }),
  },
  adam: {
    make: (params) => adam(params, { lr: 0.01, betas: [0.8, 0.95], weightDecay: 0.1 }),
    lr: 0.01,
    update: (p, g, [m, v], t, decay) =>
      each(p, (k) => {
        const d = g[k]! + decay * p[k]!
        m![k] = 0.8 * m![k]! + 0.2 * d
        v![k] = 0.95 * v![k]! + 0.05 * d * d
        p[k]! -= (0.01 * (m![k]! / (1 - 0.8 ** t))) / (Math.sqrt(v![k]! / (1 - 0.95 ** t)) + 1e-8)
      }),
  },
  lion: {
    make: (params) => lion(params, { lr: 0.01, betas: [0.9, 0.95], weightDecay: 0.1 }),
    lr: 0.01,
    update: (p, g, [m], _, decay) =>
      each(p, (k) => {
        p[k] = p[k]! * (1 - 0.01 * decay) - 0.01 * Math.sign(0.9 * m![k]! + 0.1 * g[k]!)
        m![k] = 0.95 * m![k]! + 0.05 * g[k]!
      }),
  },
}

const shapes = [[3, 5], [7], [2, 66]] as const
const initial = () => shapes.map((shape, i) => randomArray(sizeOf(shape), 20 + i))
const gradients = (t: number) => shapes.map((shape, i) => randomArray(sizeOf(shape), 100 * t + i))

describe.each(Object.entries(references))("%s", (_, { make, lr, update }) => {
  test("takes the steps that it should, vectors without decay", async () => {
    const params = initial().map((data, i) => gpu.tensor(data, shapes[i]))
    const optimizer = make(params)
    const step = gpu.compile((...grads: Tensor[]) => {
      optimizer.accumulate(grads)
      return optimizer.update({ learningRate: gpu.constant(lr) })
    })
    const expected = initial().map((data) => Float64Array.from(data))
    const states = expected.map((p) => [new Float64Array(p.length), new Float64Array(p.length)])
    for (let t = 1; t <= 5; t++) {
      step(...gradients(t).map((g, i) => gpu.tensor(g, shapes[i])))
      expected.forEach((p, i) =>
        update(p, Float64Array.from(gradients(t)[i]!), states[i]!, t, shapes[i]!.length > 1 ? 0.1 : 0),
      )
    }
    const values = await gpu.readAll(params)
    values.forEach((value, i) => expectClose(value, expected[i]!, { abs: 3e-6, rel: 3e-6 }, `parameter ${i}`))
  })

  test("stays where it is when the gradient is not finite", async () => {
    const params = initial().map((data, i) => gpu.tensor(data, shapes[i]))
    const optimizer = make(params)
    const bad = gradients(1).map((g, i) => gpu.tensor(i === 1 ? g.fill(Number.NaN) : g, shapes[i]))
    optimizer.accumulate(bad)
    optimizer.update({ learningRate: gpu.constant(lr) })
    const values = await gpu.readAll([...params, ...optimizer.grads])
    initial().forEach((data, i) => expectSameBits(values[i]!, data))
    for (const cleared of values.slice(shapes.length)) expect(cleared.every((x) => x === 0)).toBe(true)
  })
})

/** Products of matrices in float64, row by row. */
type Matrix = readonly (readonly number[])[]
const product = (a: Matrix, b: Matrix): Matrix =>
  a.map((row) => b[0]!.map((_, j) => row.reduce((sum, x, k) => sum + x * b[k]![j]!, 0)))
const transposed = (a: Matrix): Matrix => a[0]!.map((_, j) => a.map((row) => row[j]!))
const combine = (a: Matrix, b: Matrix, fn: (x: number, y: number) => number): Matrix =>
  a.map((row, i) => row.map((x, j) => fn(x, b[i]![j]!)))
const rowsOf = (data: ArrayLike<number>, columns: number): Matrix =>
  Array.from({ length: data.length / columns }, (_, i) => Array.from(data).slice(i * columns, (i + 1) * columns))

/** K. Jordan's `zeropower_via_newtonschulz5`. */
const newtonSchulz = (g: Matrix): Matrix => {
  const tall = g.length > g[0]!.length
  const start = tall ? transposed(g) : g
  const norm = Math.sqrt(start.flat().reduce((sum, x) => sum + x * x, 0)) + 1e-7
  let x: Matrix = start.map((row) => row.map((value) => value / norm))
  for (let i = 0; i < 5; i++) {
    const a = product(x, transposed(x))
    const b = combine(a, product(a, a), (p, q) => -4.775 * p + 2.0315 * q)
    x = combine(x, product(b, x), (p, q) => 3.4445 * p + q)
  }
  return tall ? transposed(x) : x
}

describe("muon", () => {
  const matrices = [
    [3, 5],
    [8, 4],
  ] as const
  const start = () => matrices.map((shape, i) => randomArray(sizeOf(shape), 40 + i))
  const gradient = (t: number) => matrices.map((shape, i) => randomArray(sizeOf(shape), 300 * t + i))

  test.each(["original", "matchAdamW"] as const)("takes the steps that it should (scale: %s)", async (scale) => {
    const params = start().map((data, i) => gpu.tensor(data, matrices[i]))
    const optimizer = muon(params, { momentum: 0.9, weightDecay: 0.2, scale })
    const step = gpu.compile((...grads: Tensor[]) => {
      optimizer.accumulate(grads)
      return optimizer.update({ learningRate: gpu.constant(0.05) })
    })
    const expected = start().map((data, i) => rowsOf(data, matrices[i]![1]))
    const buffers = expected.map((p) => p.map((row) => row.map(() => 0)) as Matrix)
    for (let t = 1; t <= 3; t++) {
      step(...gradient(t).map((g, i) => gpu.tensor(g, matrices[i])))
      gradient(t).forEach((data, i) => {
        const [rows, columns] = matrices[i]!
        const g = rowsOf(data, columns)
        buffers[i] = combine(buffers[i]!, g, (m, x) => 0.9 * m + 0.1 * x)
        const update = newtonSchulz(combine(g, buffers[i]!, (x, m) => 0.1 * x + 0.9 * m))
        const factor =
          scale === "original" ? Math.sqrt(Math.max(1, rows / columns)) : 0.2 * Math.sqrt(Math.max(rows, columns))
        expected[i] = combine(expected[i]!, update, (p, o) => p * (1 - 0.05 * 0.2) - 0.05 * factor * o)
      })
    }
    const values = await gpu.readAll([...params, ...optimizer.grads])
    expected.forEach((p, i) => expectClose(values[i]!, p.flat(), { abs: 2e-5, rel: 2e-5 }, `parameter ${i}`))
    for (const cleared of values.slice(2)) expect(cleared.every((x) => x === 0)).toBe(true)
  })

  test("stays where it is when the gradient is not finite", async () => {
    const params = start().map((data, i) => gpu.tensor(data, matrices[i]))
    const optimizer = muon(params)
    optimizer.accumulate(matrices.map((shape) => gpu.full(shape, Number.POSITIVE_INFINITY)))
    optimizer.update({ learningRate: gpu.constant(0.1) })
    const values = await gpu.readAll([...params, ...Object.values(optimizer.state)])
    start().forEach((data, i) => expectSameBits(values[i]!, data))
    expect(
      values
        .slice(2)
        .flatMap((moment) => [...moment])
        .every((x) => x === 0),
    ).toBe(true)
  })

  test("orthogonalize brings singular values near 1", async () => {
    const x = gpu.normal([6, 10], { seed: 1 })
    const y = orthogonalize(x)
    const gram = rowsOf(await y.matmul(y, { transposeB: true }).data(), 6)
    gram.forEach((row, i) =>
      row.forEach((value, j) => expect(Math.abs(value - (i === j ? 0.85 : 0))).toBeLessThan(0.5)),
    )
  })

  test("refuses vectors", () => {
    expect(() => muon([gpu.zeros([3])])).toThrow(ShapeError)
    expect(() => muon([gpu.zeros([3])])).toThrow(/muon: updates matrices only, not \[3\]/)
  })
})

describe("several optimisers together", () => {
  test("refuse to share a parameter", () => {
    const w = gpu.zeros([2, 2])
    expect(() => together(sgd([w]), adamw([w]))).toThrow(/together: a parameter is given to two optimisers/)
  })

  test("learn, each with parameters of its own", async () => {
    const [w, b] = [gpu.normal([3, 2], { seed: 3 }), gpu.zeros([2])]
    const x = gpu.normal([16, 3], { seed: 4 })
    const target = x.matmul(gpu.normal([3, 2], { seed: 5 })).add(1)
    gpu.realize([target])
    const optimizer = together(muon([w], { lr: 0.05, weightDecay: 0 }), adamw([b], { lr: 0.05 }))
    const step = gpu.compile(() =>
      optimizer.step(
        valueAndGrad((weight, bias) => x.matmul(weight!).add(bias!).sub(target).square().mean(), optimizer.params),
      ),
    )
    const first = await step().item()
    for (let i = 0; i < 40; i++) step()
    expect(await step().item()).toBeLessThan(first / 3)
  })
})

describe("clipGradNorm", () => {
  test("scales all gradients to one norm, and small ones not at all", async () => {
    const grads = [gpu.tensor([3, 0]), gpu.tensor([4], [1, 1])]
    const { norm, grads: clipped } = clipGradNorm(grads, 1)
    const small = clipGradNorm(grads, 10)
    const values = await gpu.readAll([norm, ...clipped, ...small.grads])
    expectClose(
      values.flatMap((value) => [...value]),
      [5, 0.6, 0, 0.8, 3, 0, 4],
    )
  })
})
