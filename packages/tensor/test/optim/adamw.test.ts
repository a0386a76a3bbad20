import { describe, expect, test } from "vitest"
import { adamw, valueAndGrad, type Tensor } from "../../src/index.ts"
import { testDevice } from "../device.ts"
import { expectClose, expectSameBits } from "../reference.ts"
import { gradients, initial, learningRate, Reference, settings, setUp, shapes } from "./adamw-reference.ts"

const gpu = await testDevice()

describe("adamw", () => {
  test("is PyTorch's, for twenty steps with clipping and decay of matrices only", async () => {
    const reference = new Reference()
    const { params, run } = setUp(gpu)
    for (let t = 1; t <= 20; t++) {
      const norm = await run(t, learningRate(t))
      const expected = reference.step(gradients(t), learningRate(t), settings)
      expectClose([norm], [expected], { abs: 0, rel: 1e-5 }, `norm of step ${t}`)
    }
    const values = await gpu.readAll(params)
    values.forEach((value, i) => expectClose(value, reference.params[i]!, { abs: 2e-6, rel: 2e-6 }, `parameter ${i}`))
  })

  test("gradients accumulate until the update, which clears them", async () => {
    const { optimizer } = setUp(gpu)
    const [a, b] = [gradients(1), gradients(2)]
    const tensors = (grads: readonly Float32Array<ArrayBuffer>[]) => grads.map((g, i) => gpu.tensor(g, shapes[i]))
    optimizer.accumulate(tensors(a))
    optimizer.accumulate(tensors(b))
    const sums = await gpu.readAll(optimizer.grads)
    sums.forEach((sum, i) =>
      expectSameBits(
        sum,
        a[i]!.map((x, k) => Math.fround(x + b[i]![k]!)),
      ),
    )
    const norm = optimizer.update({ learningRate: gpu.tensor([0.1]) })
    const total = sums.reduce((s, g) => s + Array.from(g).reduce((t, x) => t + x * x, 0), 0)
    expectClose([await norm.item()], [Math.sqrt(total)])
    for (const cleared of await gpu.readAll(optimizer.grads)) expect(cleared.every((x) => x === 0)).toBe(true)
  })

  test.each([Number.NaN, Number.POSITIVE_INFINITY])("a gradient of %d leaves everything as it was", async (bad) => {
    const { params, optimizer, run } = setUp(gpu)
    await run(1, 0.01)
    const state = () => gpu.readAll([...params, ...Object.values(optimizer.state)])
    const before = await state()
    const grads = gradients(2)
    grads[2]![100] = bad
    expect(Number.isFinite(await run(2, 0.01, grads))).toBe(false)
    const after = await state()
    after.forEach((value, i) => expectSameBits(value, before[i]!))
    for (const cleared of await gpu.readAll(optimizer.grads)) expect(cleared.every((x) => x === 0)).toBe(true)
    expect(Number.isFinite(await run(3, 0.01))).toBe(true)
  })

  test("its state, written into another optimiser, continues bit for bit", async () => {
    const first = setUp(gpu)
    for (let t = 1; t <= 3; t++) await first.run(t, learningRate(t))
    const second = setUp(gpu)
    const copy = async (from: readonly Tensor[], to: readonly Tensor[]) => {
      const values = await gpu.readAll(from)
      values.forEach((value, i) => gpu.write(to[i]!, value))
    }
    await copy(first.params, second.params)
    await copy(Object.values(first.optimizer.state), Object.values(second.optimizer.state))
    for (let t = 4; t <= 6; t++) for (const { run } of [first, second]) await run(t, learningRate(t))
    const [a, b] = [await gpu.readAll(first.params), await gpu.readAll(second.params)]
    a.forEach((value, i) => expectSameBits(b[i]!, value, `parameter ${i}`))
  })

  test("steps without compiling too, and gives back the loss from before the step", async () => {
    const x = gpu.tensor([1, 2, 3, 4], [2, 2])
    const w = gpu.tensor([0.5, -0.5, 1, 2], [2, 2])
    const optimizer = adamw([w], { lr: 0.1 })
    const losses: number[] = []
    for (let i = 0; i < 3; i++)
      losses.push(await optimizer.step(valueAndGrad((w) => x.matmul(w).square().mean(), [w])).item())
    expect(losses[0]).toBeCloseTo((2.5 ** 2 + 3.5 ** 2 + 5.5 ** 2 + 6.5 ** 2) / 4, 4)
    expect(losses[1]).toBeLessThan(losses[0]!)
    expect(losses[2]).toBeLessThan(losses[1]!)
  })

  test("moves parameters without changing them, and they outlive it", async () => {
    const data = initial()
    const params = data.map((values, i) => gpu.tensor(values, shapes[i]))
    const optimizer = adamw(params)
    optimizer.dispose()
    // Other buffers of the same sizes must not land on the parameters.
    const others = Array.from({ length: 20 }, () => gpu.full([256], 7))
    for (const [i, value] of (await gpu.readAll(params)).entries()) expectSameBits(value, data[i]!)
    for (const other of others) other.dispose()
  })
})
