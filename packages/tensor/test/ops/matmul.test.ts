import { describe, expect, test } from "vitest"
import { einsum, ShapeError, type Tensor } from "../../src/index.ts"
import { testDevice } from "../device.ts"
import { param } from "../gradient.ts"
import { at, dense, expectSameBits, randomArray, sizeOf, unravel, type Dense } from "../reference.ts"
import { expectAll, type Case } from "./many.ts"

const gpu = await testDevice()

/** Einstein's sum by going through every combination of indices. */
const sumOver = (formula: string, ...arrays: readonly Dense[]): Float64Array => {
  const [left, output] = formula.split("->") as [string, string]
  const inputs = left.split(",")
  const labels = [...new Set(inputs.join(""))]
  const dims = labels.map((label) => {
    const k = inputs.findIndex((names) => names.includes(label))
    return arrays[k]!.shape[inputs[k]!.indexOf(label)]!
  })
  const size = (names: string) => sizeOf([...names].map((label) => dims[labels.indexOf(label)]!))
  const out = new Float64Array(size(output))
  for (let flat = 0; flat < sizeOf(dims); flat++) {
    const index = unravel(dims, flat)
    const pick = (names: string) => [...names].map((label) => index[labels.indexOf(label)]!)
    const product = arrays.reduce((p, array, i) => p * at(array, pick(inputs[i]!)), 1)
    const to = [...output].reduce(
      (place, label) => place * dims[labels.indexOf(label)]! + index[labels.indexOf(label)]!,
      0,
    )
    out[to]! += product
  }
  return out
}

/** A case of `fn` against the sum that `formula` describes; axes of size 1 broadcast. */
const against = (
  formula: string,
  shapes: readonly (readonly number[])[],
  fn: (...tensors: Tensor[]) => Tensor,
): Case => ({
  params: shapes.map((shape, i) => param(shape, 7 * i + shape.length)),
  fn,
  reference: (...inputs) => sumOver(formula, ...inputs.map((x, i) => dense(shapes[i]!, x))),
})

describe("matmul of more than two axes", () => {
  const t = { transposeA: true } as const
  const u = { transposeB: true } as const

  test("batches, shared operands, transposed ones and vectors, with gradients", async () => {
    await expectAll(gpu, {
      "batch of both": against(
        "bik,bkj->bij",
        [
          [3, 2, 4],
          [3, 4, 5],
        ],
        (a, b) => a.matmul(b),
      ),
      "right transposed": against(
        "bik,bjk->bij",
        [
          [3, 2, 4],
          [3, 5, 4],
        ],
        (a, b) => a.matmul(b, u),
      ),
      "left transposed": against(
        "bki,bkj->bij",
        [
          [2, 4, 3],
          [2, 4, 5],
        ],
        (a, b) => a.matmul(b, t),
      ),
      "both transposed": against(
        "bki,bjk->bij",
        [
          [2, 4, 3],
          [2, 5, 4],
        ],
        (a, b) => a.matmul(b, { ...t, ...u }),
      ),
      "one matrix on the right": against(
        "bcik,kj->bcij",
        [
          [2, 3, 2, 4],
          [4, 3],
        ],
        (a, b) => a.matmul(b),
      ),
      "one matrix on the left": against(
        "ik,bkj->bij",
        [
          [3, 4],
          [2, 4, 5],
        ],
        (a, b) => a.matmul(b),
      ),
      "one on the right, left transposed": against(
        "bki,kj->bij",
        [
          [2, 4, 3],
          [4, 5],
        ],
        (a, b) => a.matmul(b, t),
      ),
      "batches that broadcast": against(
        "bcik,ckj->bcij",
        [
          [2, 3, 2, 4],
          [3, 4, 2],
        ],
        (a, b) => a.matmul(b),
      ),
      "matrix and vector": against("ik,k->i", [[3, 4], [4]], (a, b) => a.matmul(b)),
      "vector and matrix": against("k,kj->j", [[4], [4, 3]], (a, b) => a.matmul(b)),
      "vector and vector": against("k,k->", [[4], [4]], (a, b) => a.matmul(b)),
      "nothing to sum": against(
        "bik,bkj->bij",
        [
          [2, 3, 0],
          [2, 0, 4],
        ],
        (a, b) => a.matmul(b),
      ),
      "no batch": against(
        "bik,bkj->bij",
        [
          [0, 3, 2],
          [0, 2, 4],
        ],
        (a, b) => a.matmul(b),
      ),
    })
  })

  test("sizes of 1 along a batch broadcast both ways", () => {
    expect(gpu.zeros([2, 1, 3, 4]).matmul(gpu.zeros([1, 5, 4, 6])).shape).toEqual([2, 5, 3, 6])
  })

  test("each product has the bits of the product alone, however it is launched", async () => {
    for (const [m, k, n] of [
      [3, 5, 7],
      [64, 64, 64],
    ] as const) {
      const [a, b] = [randomArray(2 * m * k, 1), randomArray(2 * k * n, 2)]
      const both = await gpu
        .tensor(a, [2, m, k])
        .matmul(gpu.tensor(b, [2, k, n]))
        .data()
      const alone = gpu.tensor(a.slice(m * k), [m, k]).matmul(gpu.tensor(b.slice(k * n), [k, n]))
      expectSameBits(both.slice(m * n), await alone.data())
    }
  })

  test.each([
    [() => gpu.zeros([2, 3, 4]).matmul(gpu.zeros([2, 3, 4])), /matmul: \[2, 3, 4\] and \[2, 3, 4\] do not fit/],
    [() => gpu.zeros([2, 3, 4]).matmul(gpu.zeros([3, 4, 5])), /matmul: shapes \[2\] and \[3\] do not broadcast/],
    [() => gpu.zeros([]).matmul(gpu.zeros([2])), /a scalar has no matrix product/],
  ])("names what does not fit", (call, message) => {
    expect(call).toThrow(ShapeError)
    expect(call).toThrow(message)
  })
})

describe("einsum", () => {
  const formulas: readonly (readonly [formula: string, ...shapes: (readonly number[])[]])[] = [
    ["ij,jk->ik", [3, 4], [4, 2]],
    ["bhqd,bhkd->bhqk", [2, 2, 3, 4], [2, 2, 5, 4]],
    ["ij->ji", [3, 4]],
    ["ijk->j", [2, 3, 4]],
    ["i,j->ij", [3], [4]],
    ["i,i->i", [5], [5]],
    ["ij,ij->", [3, 4], [3, 4]],
    ["ii->", [4, 4]],
    ["bii->bi", [2, 3, 3]],
    ["ijk,k->ij", [2, 3, 4], [4]],
    ["ij,kj,lk->il", [2, 3], [4, 3], [5, 4]],
    ["ij,k->i", [2, 3], [4]],
  ]

  test("against the sum over every index, with gradients", async () => {
    await expectAll(
      gpu,
      Object.fromEntries(
        formulas.map(([formula, ...shapes]) => [formula, against(formula, shapes, (...x) => einsum(formula, ...x))]),
      ),
    )
  })

  test("without an output: the axes that occur once, in order", async () => {
    const a = gpu.tensor(randomArray(12, 1), [3, 4])
    const b = gpu.tensor(randomArray(8, 2), [4, 2])
    expectSameBits(await einsum("cb,ba", a, b).data(), await a.matmul(b).transpose().data())
  })

  test("... stands for axes that broadcast, of several operands or of one", async () => {
    const pairs: readonly (readonly [formula: string, spelled: string, ...shapes: (readonly number[])[]])[] = [
      ["...ij,...jk->...ik", "bij,bjk->bik", [2, 3, 4], [2, 4, 2]],
      ["...ij,...jk", "abij,bjk->abik", [2, 3, 3, 4], [3, 4, 2]],
      ["i...->...i", "iab->abi", [2, 3, 4], []],
      ["...i->...", "abi->ab", [2, 3, 4], []],
      ["...,...", "ab,ab->ab", [2, 3], [2, 3]],
      ["...i,i", "i,i->", [4], [4]],
      ["...ij->ij", "aij->ij", [3, 2, 2], []],
    ]
    for (const [formula, spelled, ...shapes] of pairs) {
      const operands = shapes
        .filter(({ length }) => length > 0)
        .map((shape, i) => gpu.tensor(randomArray(sizeOf(shape), i), shape))
      const [actual, expected] = [einsum(formula, ...operands), einsum(spelled, ...operands)]
      expect(actual.shape, formula).toEqual(expected.shape)
      expectSameBits(await actual.data(), await expected.data(), formula)
    }
    await expectAll(gpu, {
      "an axis of size 1": against(
        "abij,bjk->abik",
        [
          [2, 3, 2, 4],
          [3, 4, 2],
        ],
        (a, b) => einsum("...ij,...jk->...ik", a, b.unsqueeze(0)),
      ),
      "an axis of size 1 in the middle": against(
        "aij,bjk->abik",
        [
          [2, 2, 4],
          [3, 4, 2],
        ],
        (a, b) => einsum("...ij,...jk->...ik", a.unsqueeze(1), b),
      ),
    })
  })

  test.each([
    ["ij,jk", /has 2 operands, not 1/],
    ["ij->k", /has an output that its operands do not make/],
    ["i->i", /names 1 axes of operand 0, which has 2/],
    ["ii->i", /gives axis i the sizes 2 and 3/],
    ["i*j->i", /is not a formula such as/],
    ["ij->ii", /has an output/],
  ])("refuses %s", (formula, message) => {
    expect(() => einsum(formula, gpu.zeros([2, 3]))).toThrow(message)
  })
})
