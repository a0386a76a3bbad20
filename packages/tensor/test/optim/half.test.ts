import { describe, expect, test } from "vitest"
import { adamw, grad, lion, linear, muon, type HalfType, type Optimizer, type Tensor } from "../../src/index.ts"
import { testDevice } from "../device.ts"
import { expectSameBits, randomArray, sizeOf } from "../reference.ts"

const gpu = await testDevice()

const shapes = [
  [5, 7],
  [8, 12],
] as const

const makers: Readonly<Record<string, (params: readonly Tensor[]) => Optimizer>> = {
  adamw: (params) => adamw(params, { weightDecay: 0.1 }),
  lion: (params) => lion(params, { weightDecay: 0.1 }),
  muon: (params) => muon(params),
}

/** Parameters of `dtype`, with a −0 among them, and the numbers that they stand for in f32. */
const parameters = async (dtype: HalfType) => {
  const halves = shapes.map((shape, i) => {
    const values = randomArray(sizeOf(shape), i)
    values[3] = -0
    return gpu.tensor(values, shape).cast(dtype)
  })
  const wide = await Promise.all(halves.map(async (half) => gpu.tensor(await half.data(), half.shape)))
  return { halves, wide }
}

const gradients = (t: number) => shapes.map((shape, i) => gpu.tensor(randomArray(sizeOf(shape), 100 * t + i), shape))

const stepOf = (optimizer: Optimizer) =>
  gpu.compile((rate: Tensor, ...grads: Tensor[]) => {
    optimizer.accumulate(grads)
    return optimizer.update({ learningRate: rate, maxGradNorm: 1 })
  })

describe.each(Object.entries(makers))("%s over parameters of half a word", (_, make) => {
  test.each(["f16", "bf16"] as const)("%s: they are at every step what f32 ones would be, rounded", async (dtype) => {
    const { halves, wide } = await parameters(dtype)
    const [half, full] = [stepOf(make(halves)), stepOf(make(wide))]
    // Most steps are far smaller than the distance of two bfloat16 numbers: they count, since they are gathered in f32.
    for (let t = 1; t <= 6; t++) {
      const rate = gpu.tensor([1e-4], [1])
      half(rate, ...gradients(t))
      full(rate, ...gradients(t))
      const values = await gpu.readAll([...halves, ...wide.map((param) => param.cast(dtype))])
      halves.forEach((_half, i) => expectSameBits(values[i]!, values[i + halves.length]!, `step ${t}, parameter ${i}`))
    }
  })

  test("a gradient that is not finite leaves every bit, and state and parameters go on elsewhere", async () => {
    const { halves } = await parameters("bf16")
    const before = await gpu.readAll(halves)
    const optimizer = make(halves)
    const step = stepOf(optimizer)
    const rate = gpu.tensor([0.01], [1])
    step(rate, ...shapes.map((shape) => gpu.full(shape, Number.NaN)))
    const after = await gpu.readAll(halves)
    after.forEach((values, i) => expectSameBits(values, before[i]!))

    step(rate, ...gradients(1))
    const { halves: others } = await parameters("bf16")
    const other = make(others)
    for (const [i, half] of halves.entries()) gpu.write(others[i]!, await half.data())
    for (const [name, tensor] of Object.entries(optimizer.state)) gpu.write(other.state[name]!, await tensor.data())
    step(rate, ...gradients(2))
    stepOf(other)(rate, ...gradients(2))
    const values = await gpu.readAll([...halves, ...others])
    halves.forEach((_half, i) => expectSameBits(values[i]!, values[i + halves.length]!))
  })
})

test("parameters of both kinds learn together, each with its gradient", async () => {
  const [w, b] = [gpu.normal([4, 6], { seed: 1, std: 0.1 }).cast("bf16"), gpu.zeros([4])]
  const optimizer = adamw([b, w], { lr: 0.01 })
  expect(optimizer.grads.map(({ dtype, shape }) => [dtype, shape])).toEqual([
    ["f32", [4]],
    ["f32", [4, 6]],
  ])
  const [x, y] = [gpu.normal([16, 6], { seed: 2 }), gpu.normal([16, 4], { seed: 3 })]
  const loss = () => linear(x, w, { bias: b }).sub(y).square().mean()
  const step = gpu.compile(() => {
    const value = loss()
    return optimizer.step({ value, grads: grad(value, optimizer.params) })
  })
  const first = await step().item()
  for (let i = 0; i < 40; i++) step()
  expect(await step().item()).toBeLessThan(0.9 * first)
  expect(w.dtype).toBe("bf16")
})
