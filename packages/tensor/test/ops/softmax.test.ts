import { describe, expect, test } from "vitest"
import { grad, ShapeError, valueAndGrad, type CrossEntropyOptions } from "../../src/index.ts"
import { testDevice } from "../device.ts"
import { param } from "../gradient.ts"
import { centralDifferences, expectClose, sizeOf } from "../reference.ts"
import { expectAll, type Case } from "./many.ts"

const gpu = await testDevice()

/** Softmax in float64 along an axis; its logarithm if `log`. */
const reference = (x: Float64Array, shape: readonly number[], axis: number, log: boolean): Float64Array => {
  const inner = sizeOf(shape.slice(axis + 1))
  const length = shape[axis]!
  return x.map((value, i) => {
    const first = i - (Math.floor(i / inner) % length) * inner
    const line = Array.from({ length }, (_, k) => x[first + k * inner]!)
    const top = Math.max(...line)
    const total = line.reduce((sum, other) => sum + Math.exp(other - top), 0)
    return log ? value - top - Math.log(total) : Math.exp(value - top) / total
  })
}

describe.each([false, true])("softmax (logarithm: %s)", (log) => {
  test("along any axis, with gradients", async () => {
    const cases = (
      [
        [[3, 5], 1],
        [[3, 5], 0],
        [[2, 3, 4], 1],
        [[2, 130], 1],
        [[4, 1], 1],
        [[0, 3], 1],
      ] as const
    ).map(([shape, axis], i): [string, Case] => [
      `axis ${axis} of [${shape.join()}]`,
      {
        params: [param(shape, i, -4, 4)],
        fn: (x) => (log ? x.logSoftmax(axis) : x.softmax(axis)),
        reference: (x) => reference(x, shape, axis, log),
      },
    ])
    await expectAll(gpu, Object.fromEntries(cases))
  })

  test("neither overflows nor loses a masked element", async () => {
    const x = gpu.tensor([1e4, 1e4, -1e4, 0, Number.NEGATIVE_INFINITY, 0], [2, 3])
    const result = [...(await (log ? x.logSoftmax() : x.softmax()).data())]
    const half = log ? Math.log(0.5) : 0.5
    const none = log ? Number.NEGATIVE_INFINITY : 0
    expectClose(result, [half, half, log ? -2e4 + half : 0, half, none, half])
  })
})

describe("crossEntropy", () => {
  const targets = [2, 0, -100, 4]
  const ids = gpu.tensor(new Int32Array(targets))
  const losses = (x: Float64Array) =>
    targets.map((target, row) => (target < 0 ? 0 : -reference(x, [4, 5], 1, true)[row * 5 + target]!))
  const total = (x: Float64Array) => losses(x).reduce((a, b) => a + b, 0)

  test("mean, sum and rows; a target that is no class counts for nothing", async () => {
    const x = param([4, 5], 1, -3, 3)
    await expectAll(gpu, {
      none: { params: [x], fn: (logits) => logits.crossEntropy(ids, { reduction: "none" }), reference: losses },
      sum: {
        params: [x],
        fn: (logits) => logits.crossEntropy(ids, { reduction: "sum" }),
        reference: (v) => [total(v)],
      },
      mean: { params: [x], fn: (logits) => logits.crossEntropy(ids), reference: (v) => [total(v) / 3] },
    })
  })

  test("label smoothing gives every class a part; ignored classes count for nothing", async () => {
    const smoothed = (
      x: Float64Array,
      classes: number,
      labels: readonly number[],
      smoothing: number,
      ignored?: number,
    ) =>
      labels.map((target, row) => {
        if (target < 0 || target >= classes || target === ignored) return 0
        const logProbs = reference(x, [labels.length, classes], 1, true).slice(row * classes, (row + 1) * classes)
        return -logProbs.reduce(
          (sum, value, k) => sum + value * (smoothing / classes + (k === target ? 1 - smoothing : 0)),
          0,
        )
      })
    const sum = (rows: readonly number[]) => rows.reduce((a, b) => a + b, 0)
    const wide = [2, 601]
    const x = param([4, 5], 1, -3, 3)
    await expectAll(gpu, {
      smoothed: {
        params: [x],
        fn: (logits) => logits.crossEntropy(ids, { labelSmoothing: 0.1, reduction: "none" }),
        reference: (v) => smoothed(v, 5, targets, 0.1),
      },
      "mean of counted rows": {
        params: [x],
        fn: (logits) => logits.crossEntropy(ids, { labelSmoothing: 0.3, ignoreIndex: 4 }),
        reference: (v) => [sum(smoothed(v, 5, targets, 0.3, 4)) / 2],
      },
      ignored: {
        params: [x],
        fn: (logits) => logits.crossEntropy(ids, { ignoreIndex: 0 }),
        reference: (v) => [sum(smoothed(v, 5, targets, 0, 0)) / 2],
      },
      "smoothed alone": {
        params: [x],
        fn: (logits) => logits.crossEntropy(ids, { labelSmoothing: 1, reduction: "sum", ignoreIndex: -100 }),
        reference: (v) => [sum(smoothed(v, 5, targets, 1))],
      },
      "rows of many blocks": {
        params: [param([2, 602], 2, -3, 3)],
        fn: (logits) => logits.crossEntropy(gpu.tensor(new Int32Array(wide)), { labelSmoothing: 0.2 }),
        reference: (v) => [sum(smoothed(v, 602, wide, 0.2)) / 2],
        grad: false,
      },
    })
  })

  test("of any number of axes before the classes", async () => {
    const logits = gpu.normal([2, 2, 5], { seed: 1 })
    const grid = ids.reshape([2, 2])
    const rows = logits.crossEntropy(grid, { reduction: "none" })
    expect(rows.shape).toEqual([2, 2])
    const flat = logits.reshape([4, 5]).crossEntropy(ids)
    expectClose([await logits.crossEntropy(grid).item()], [await flat.item()], { abs: 0, rel: 0 })
  })

  test("takes the gradient back into a product", async () => {
    const [x, w] = [param([4, 3], 2), param([3, 5], 3)]
    const loss = (a: Float64Array, b: Float64Array) => {
      const logits = new Float64Array(20)
      for (let i = 0; i < 4; i++)
        for (let j = 0; j < 5; j++) for (let k = 0; k < 3; k++) logits[i * 5 + j]! += a[i * 3 + k]! * b[k * 5 + j]!
      return total(logits) / 3
    }
    const { grads } = valueAndGrad(
      (weights) => gpu.tensor(x.data, x.shape).matmul(weights).crossEntropy(ids),
      [gpu.tensor(w.data, w.shape)],
    )
    const [, expected] = centralDifferences(loss, [Float64Array.from(x.data), Float64Array.from(w.data)])
    expectClose(await grads[0]!.data(), expected!, { abs: 1e-5, rel: 1e-4 })
  })

  test("agrees with log-softmax and gather, which can be differentiated twice", async () => {
    const logits = gpu.tensor([1, 2, 0.5, -1, 0, 3], [2, 3])
    const labels = gpu.tensor(new Int32Array([0, 2]))
    const composed = logits.logSoftmax().gather(1, labels.unsqueeze(1)).mean().neg()
    const [first] = grad(composed, [logits])
    const [a, b, c] = await gpu.readAll([composed, first!, grad(first!.square().sum(), [logits])[0]!])
    expectClose([await logits.crossEntropy(labels).item()], a!)
    expectClose(await grad(logits.crossEntropy(labels), [logits])[0]!.data(), b!)
    const squares = (x: Float64Array) => {
      const p = reference(x, [2, 3], 1, false).map((value, i) => (value - (i === 0 || i === 5 ? 1 : 0)) / 2)
      return p.reduce((sum, g) => sum + g * g, 0)
    }
    expectClose(c!, centralDifferences(squares, [Float64Array.from([1, 2, 0.5, -1, 0, 3])])[0]!, {
      abs: 1e-5,
      rel: 1e-4,
    })
  })

  test("the fused gradient says that it has none of its own", () => {
    const logits = gpu.zeros([2, 3])
    const [first] = grad(logits.crossEntropy(gpu.zeros([2], "i32")), [logits])
    expect(() => grad(first!.square().sum(), [logits])).toThrow(/crossEntropy gradient: has no gradient/)
  })

  test("names what does not fit", () => {
    expect(() => gpu.zeros([2, 3]).crossEntropy(gpu.zeros([2]))).toThrow(ShapeError)
    const loss = (options: CrossEntropyOptions) => () => gpu.zeros([2, 3]).crossEntropy(gpu.zeros([2], "i32"), options)
    expect(loss({ labelSmoothing: 1.5 })).toThrow(/crossEntropy: labelSmoothing is a number from 0 to 1, not 1.5/)
    expect(loss({ ignoreIndex: 0.5 })).toThrow(/crossEntropy: ignoreIndex is a whole number, not 0.5/)
    expect(() => gpu.zeros([2, 3]).crossEntropy(gpu.zeros([3], "i32"))).toThrow(
      /crossEntropy: needs logits \[\.\.\., C\]/,
    )
  })
})
