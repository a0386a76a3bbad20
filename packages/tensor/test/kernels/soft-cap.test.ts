import { describe, expect, test } from "vitest"
import { linear, logProbsOf, softCap, tokenLogProbs } from "../../src/index.ts"
import { testDevice } from "../device.ts"
import { expectDifferentiable, param } from "../gradient.ts"
import { expectClose, expectSameBits, randomArray } from "../reference.ts"

const gpu = await testDevice()

test.each([
  ["values far below the cap", [5, 7], 30, 3],
  ["values around the cap", [3, 66], 2, 5],
  ["a vector", [131], 50, 60],
] as const)("softCap of %s, with gradients", async (_, shape, cap, range) => {
  await expectDifferentiable(gpu, {
    params: [param(shape, 1, -range, range)],
    fn: (x) => softCap(x, cap),
    reference: (x) => x.map((value) => cap * Math.tanh(value / cap)),
  })
})

test("softCap keeps what is huge within the cap, with no gradient left", async () => {
  const x = gpu.tensor(Float32Array.of(1e4, -1e30, 300))
  expect([...(await softCap(x, 30).data())]).toEqual([30, -30, expect.closeTo(30, 5)])
})

test("softCap keeps the digits of what is far below the cap, and what is no number", async () => {
  const x = Float32Array.of(1e-20, -3e-7, 2e-4, 0.05, -1)
  const capped = await softCap(gpu.tensor([...x, Number.NaN]), 30).data()
  expectClose(
    capped.subarray(0, 5),
    Float64Array.from(x, (value) => 30 * Math.tanh(value / 30)),
    { abs: 0, rel: 4e-7 },
  )
  expect(capped[5]).toBeNaN()
})

describe("tokenLogProbs with a soft cap", () => {
  const [rows, width, vocabulary, cap] = [5, 8, 13, 1.5]
  const targets = Int32Array.of(3, 0, 12, 7, 7)
  const ids = gpu.tensor(targets)

  /** logProb − 0.3 · entropy of softmax(cap · tanh(hidden · headᵀ / cap) / temperature). */
  const reference = (temperature: number) => (hidden: Float64Array, head: Float64Array) =>
    Float64Array.from(targets, (target, row) => {
      const z = Array.from({ length: vocabulary }, (_, v) => {
        let product = 0
        for (let k = 0; k < width; k++) product += hidden[row * width + k]! * head[v * width + k]!
        return (cap * Math.tanh(product / cap)) / temperature
      })
      const norm = Math.log(z.reduce((sum, value) => sum + Math.exp(value), 0))
      const entropy = z.reduce((sum, value) => sum - Math.exp(value - norm) * (value - norm), 0)
      return z[target]! - norm - 0.3 * entropy
    })

  test.each([1, 0.6])("at temperature %d, with gradients", async (temperature) => {
    await expectDifferentiable(gpu, {
      params: [param([rows, width], 1, -1, 1), param([vocabulary, width], 2, -1, 1)],
      fn: (hidden, head) => {
        const { logProbs, entropy } = tokenLogProbs(hidden, head, ids, { temperature, softCap: cap })
        return logProbs.sub(entropy.mul(0.3))
      },
      reference: reference(temperature),
    })
  })

  test("has the bits of capped logits that exist, over any number of chunks", async () => {
    const [many, wide] = [300, 30_000]
    const hidden = gpu.tensor(randomArray(many * 4, 3, -2, 2), [many, 4])
    const head = gpu.tensor(randomArray(wide * 4, 4, -2, 2), [wide, 4])
    const next = gpu.tensor(Int32Array.from({ length: many }, (_, i) => (i * 97) % wide))
    const options = { temperature: 0.8 }
    const [chunked, whole] = await gpu.readAll([
      tokenLogProbs(hidden, head, next, { ...options, softCap: 2 }).logProbs,
      logProbsOf(softCap(linear(hidden, head), 2), next, options),
    ])
    expectSameBits(chunked!, whole!)
  })
})
