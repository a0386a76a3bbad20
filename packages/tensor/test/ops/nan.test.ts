import { describe, expect, test } from "vitest"
import { glu, grad, softCap, type Tensor } from "../../src/index.ts"
import { mapTable, type MapName } from "../../src/ops/table.ts"
import { testDevice } from "../device.ts"

const gpu = await testDevice()

/** What is no number: quiet, of either sign, and with more bits. Four are read as one, three by one. */
const patterns = [0x7fc00000, 0xffc00000, 0x7fc01234, 0xffffffff]
const nan = (count: number) => gpu.tensor(new Float32Array(Uint32Array.from(patterns.slice(0, count)).buffer))

const apply = (name: MapName, [first, ...rest]: readonly Tensor[]): Tensor =>
  (first as unknown as Record<MapName, (...operands: readonly Tensor[]) => Tensor>)[name](...rest)

describe.each([4, 3])("what is no number, %d in a row", (count) => {
  const half = gpu.tensor(new Float32Array(count).fill(0.5))

  test("stays so in every operand of every element-wise operation", async () => {
    const cases = (Object.keys(mapTable) as MapName[]).flatMap((name) => {
      const { reference } = mapTable[name]
      return Array.from({ length: reference.length }, (_, at) => {
        const pick = <A>(bad: A, good: A) => Array.from({ length: reference.length }, (_, i) => (i === at ? bad : good))
        return {
          name: `${name} ${at}`,
          result: apply(name, pick(nan(count), half)),
          expected: reference(...pick(Number.NaN, 0.5)),
        }
      })
    })
    const results = await gpu.readAll(cases.map(({ result }) => result))
    const told = Object.fromEntries(cases.map(({ name }, i) => [name, [...results[i]!]]))
    const expected = Object.fromEntries(cases.map(({ name, expected: value }) => [name, Array(count).fill(value)]))
    expect(told).toEqual(expected)
  })

  test("is in the gradient where PyTorch has it there, or lets all of it pass", async () => {
    const x = nan(count)
    const smooth = "abs exp log sqrt square sin erf tanh sigmoid silu elu softplus gelu geluTanh expm1 log1p reciprocal"
    const spread = smooth.split(" ") as MapName[]
    const spreading = spread.map((name) => grad(apply(name, [x]).sum(), [x])[0]!)
    const passing = [x.relu(), x.minimum(half), half.minimum(x), x.maximum(half), half.maximum(x)].map(
      (y) => grad(y.sum(), [x])[0]!,
    )
    const results = (await gpu.readAll([...spreading, ...passing])).map((array) => [...array])
    expect(results.slice(0, spread.length)).toEqual(spread.map(() => Array(count).fill(Number.NaN)))
    expect(results.slice(spread.length)).toEqual(passing.map(() => Array(count).fill(1)))
  })

  test("is true, is not equal to itself, and is within no limits", async () => {
    const x = nan(count)
    const results = await gpu.readAll([x.notEqual(x), x.not(), x.and(1), x.any(), x.all(), x.clamp(-1, 1)])
    expect(results.map((array) => array[0])).toEqual([1, 0, 1, 1, 1, Number.NaN])
  })

  test("is true as a bool and 0 as a whole number", async () => {
    const casts = [nan(count).cast("bool"), nan(count).cast("i32"), nan(count).cast("u32")]
    expect((await gpu.readAll(casts)).map((array) => [...array])).toEqual([1, 0, 0].map((x) => Array(count).fill(x)))
  })

  test("goes through a network's activations and its loss", async () => {
    const x = nan(count)
    const gated = (["silu", "gelu", "geluTanh"] as const).map((activation) =>
      glu(x.reshape([count, 1]).broadcastTo([count, 2]), activation),
    )
    const results = await gpu.readAll([x.mul(2).relu().add(1).sum(), softCap(x, 5), ...gated])
    expect(results.map((array) => [...array].every(Number.isNaN))).toEqual(results.map(() => true))
  })
})

test("a gradient that is no number stops where the forward pass did, and nowhere else", async () => {
  const x = gpu.tensor([-1, 0, 1])
  const weight = gpu.tensor([Number.NaN, Number.NaN, Number.NaN])
  const gradients = [x.relu(), x.maximum(0.5), x.minimum(0.5)].map((y) => grad(y.mul(weight).sum(), [x])[0]!)
  expect((await gpu.readAll(gradients)).map((array) => [...array])).toEqual([
    [0, 0, Number.NaN],
    [0, 0, Number.NaN],
    [Number.NaN, Number.NaN, 0],
  ])
})
