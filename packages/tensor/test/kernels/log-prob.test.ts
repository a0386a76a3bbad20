import { describe, expect, test } from "vitest"
import { grad, linear, logProbsOf, ShapeError, tokenLogProbs } from "../../src/index.ts"
import { testDevice } from "../device.ts"
import { expectDifferentiable, param } from "../gradient.ts"
import { expectClose, expectSameBits, randomArray, randomNumbers } from "../reference.ts"

const gpu = await testDevice()

const randomTargets = (count: number, vocabulary: number, seed: number): Int32Array<ArrayBuffer> => {
  const next = randomNumbers(seed)
  return Int32Array.from({ length: count }, () => Math.floor(next() * vocabulary))
}

/** log softmax and entropy of one row of logits. */
const rowReference = (logits: Float64Array) => {
  let top = Number.NEGATIVE_INFINITY
  for (const z of logits) top = Math.max(top, z)
  let total = 0
  for (const z of logits) total += Math.exp(z - top)
  const norm = top + Math.log(total)
  const logP = logits.map((z) => z - norm)
  let entropy = 0
  for (const l of logP) entropy -= Math.exp(l) * l
  return { logP, entropy }
}

const logits = (hidden: Float64Array, head: Float64Array, row: number, width: number, temperature: number) => {
  const out = new Float64Array(head.length / width)
  for (let v = 0; v < out.length; v++) {
    for (let k = 0; k < width; k++) out[v]! += hidden[row * width + k]! * head[v * width + k]!
    out[v]! /= temperature
  }
  return out
}

const reference =
  (targets: Int32Array, width: number, temperature: number, kind: "logProbs" | "entropy" | "both") =>
  (hidden: Float64Array, head: Float64Array) =>
    Float64Array.from(targets, (target, row) => {
      const { logP, entropy } = rowReference(logits(hidden, head, row, width, temperature))
      const of = { logProbs: logP[target]!, entropy, both: logP[target]! - 0.3 * entropy }
      return of[kind]
    })

describe("tokenLogProbs", () => {
  test.each([
    [5, 8, 12, 1, "logProbs"],
    [5, 8, 12, 0.7, "entropy"],
    [3, 5, 70, 1.3, "both"],
    [9, 4, 130, 1, "both"],
    [1, 1, 3, 1, "both"],
  ] as const)("%i rows of width %i over %i tokens at temperature %d: %s, with gradients", async (...args) => {
    const [rows, width, vocabulary, temperature, kind] = args
    const targets = randomTargets(rows, vocabulary, 1)
    const ids = gpu.tensor(targets)
    await expectDifferentiable(gpu, {
      params: [param([rows, width], 2, -2, 2), param([vocabulary, width], 3, -2, 2)],
      fn: (hidden, head) => {
        const { logProbs, entropy } = tokenLogProbs(hidden, head, ids, { temperature })
        return { logProbs, entropy, both: logProbs.sub(entropy.mul(0.3)) }[kind]
      },
      reference: reference(targets, width, temperature, kind),
      value: { abs: 2e-6, rel: 2e-6 },
    })
  })

  test("stays finite for logits that overflow exp", async () => {
    const width = 4
    const targets = new Int32Array([0, 5])
    const [hidden, head] = [randomArray(2 * width, 4, -50, 50), randomArray(9 * width, 5, -50, 50)]
    const out = tokenLogProbs(gpu.tensor(hidden, [2, width]), gpu.tensor(head, [9, width]), gpu.tensor(targets), {
      temperature: 1,
    })
    const expected = reference(targets, width, 1, "logProbs")(Float64Array.from(hidden), Float64Array.from(head))
    expectClose(await out.logProbs.data(), expected, { abs: 1e-3, rel: 1e-6 })
    expectClose(
      await out.entropy.data(),
      reference(targets, width, 1, "entropy")(Float64Array.from(hidden), Float64Array.from(head)),
      { abs: 1e-3, rel: 1e-3 },
    )
  })

  // 16 MiB of logits are 64 rows of this vocabulary: 67 rows are two chunks, the second one of three.
  describe("in chunks", () => {
    const [rows, width, vocabulary, temperature] = [67, 4, 32_772, 0.9]
    const targets = randomTargets(rows, vocabulary, 6)
    const hiddenData = randomArray(rows * width, 7, -2, 2)
    const headData = randomArray(vocabulary * width, 8, -2, 2)
    const hidden = gpu.tensor(hiddenData, [rows, width])
    const head = gpu.tensor(headData, [vocabulary, width])
    const [weights, entropyWeights] = [randomArray(rows, 9), randomArray(rows, 10)]

    test("values and gradients are those of the whole matrix", async () => {
      const out = tokenLogProbs(hidden, head, gpu.tensor(targets), { temperature })
      const loss = out.logProbs
        .mul(gpu.tensor(weights))
        .add(out.entropy.mul(gpu.tensor(entropyWeights)))
        .sum()
      const [logProbs, entropy, dHidden, dHead] = await gpu.readAll([
        out.logProbs,
        out.entropy,
        ...grad(loss, [hidden, head]),
      ])

      const [x, w] = [Float64Array.from(hiddenData), Float64Array.from(headData)]
      const expected = { logProbs: new Float64Array(rows), entropy: new Float64Array(rows) }
      const expectedHidden = new Float64Array(x.length)
      const expectedHead = new Float64Array(w.length)
      for (let row = 0; row < rows; row++) {
        const reference = rowReference(logits(x, w, row, width, temperature))
        expected.logProbs[row] = reference.logP[targets[row]!]!
        expected.entropy[row] = reference.entropy
        for (let v = 0; v < vocabulary; v++) {
          const p = Math.exp(reference.logP[v]!)
          const ofLogProb = (v === targets[row] ? 1 : 0) - p
          const ofEntropy = -p * (reference.logP[v]! + reference.entropy)
          const g = (weights[row]! * ofLogProb + entropyWeights[row]! * ofEntropy) / temperature
          for (let k = 0; k < width; k++) {
            expectedHidden[row * width + k]! += g * w[v * width + k]!
            expectedHead[v * width + k]! += g * x[row * width + k]!
          }
        }
      }
      expectClose(logProbs!, expected.logProbs, { abs: 1e-5, rel: 1e-5 }, "logProbs")
      expectClose(entropy!, expected.entropy, { abs: 1e-4, rel: 1e-5 }, "entropy")
      expectClose(dHidden!, expectedHidden, { abs: 1e-4, rel: 1e-4 }, "gradient of hidden")
      expectClose(dHead!, expectedHead, { abs: 1e-6, rel: 1e-4 }, "gradient of head")
    })

    test("a row has the same bits in every chunk, alone, and from logits that exist", async () => {
      const all = await tokenLogProbs(hidden, head, gpu.tensor(targets), { temperature }).logProbs.data()
      for (const row of [0, 63, 64, 66]) {
        const one = gpu.tensor(hiddenData.slice(row * width, (row + 1) * width), [1, width])
        const target = gpu.tensor(targets.slice(row, row + 1))
        const alone = tokenLogProbs(one, head, target, { temperature }).logProbs
        const sampled = logProbsOf(linear(one, head), target, { temperature })
        const [a, s] = await gpu.readAll([alone, sampled])
        expectSameBits(a!, all.subarray(row, row + 1), `row ${row}`)
        expectSameBits(s!, all.subarray(row, row + 1), `row ${row}, sampled`)
      }
    })
  })

  test("names what does not fit", () => {
    const targets = gpu.tensor(new Int32Array(3))
    const [hidden, head] = [gpu.zeros([3, 4]), gpu.zeros([7, 4])]
    const message = /tokenLogProbs: hidden \[3, 4\], head \[7, 5\] and i32 targets \[3\]/
    expect(() => tokenLogProbs(hidden, gpu.zeros([7, 5]), targets, { temperature: 1 })).toThrow(message)
    expect(() => tokenLogProbs(hidden, head, gpu.tensor(new Int32Array(4)), { temperature: 1 })).toThrow(ShapeError)
    expect(() => tokenLogProbs(hidden, head, gpu.zeros([3]), { temperature: 1 })).toThrow(ShapeError)
    expect(() => logProbsOf(gpu.zeros([3, 7]), gpu.zeros([3]), { temperature: 1 })).toThrow(/logProbsOf/)
    expect(() => logProbsOf(gpu.zeros([3, 7]), gpu.tensor(new Int32Array(2)), { temperature: 1 })).toThrow(ShapeError)
  })
})
