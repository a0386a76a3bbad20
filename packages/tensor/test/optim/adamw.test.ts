import { describe, expect, test } from "vitest"
import { adamw, valueAndGrad, type AdamWOptions, type Gpu, type Tensor } from "../../src/index.ts"
import { testDevice } from "../device.ts"
import { expectClose, expectSameBits, randomArray } from "../reference.ts"

const gpu = await testDevice()

/** Sizes that leave gaps in the optimiser's buffers: 5 and 7 are no multiples of four. */
const shapes = [[3, 5], [7], [2, 66], [1], [64]] as const
const sizes = [15, 7, 132, 1, 64]

const initial = () => sizes.map((size, i) => randomArray(size, 20 + i))
/** Gradients of step `t`; every third is large enough to be clipped. */
const gradients = (t: number) => sizes.map((size, i) => randomArray(size, 1000 * t + i, -1, t % 3 === 0 ? 40 : 1))

interface Settings extends Required<Omit<AdamWOptions, "lr">> {
  readonly maxGradNorm: number
}

/** torch.optim.AdamW (single tensor path) after torch.nn.utils.clip_grad_norm_, in float64. */
class Reference {
  readonly params = initial().map((p) => Float64Array.from(p))
  readonly m = sizes.map((size) => new Float64Array(size))
  readonly v = sizes.map((size) => new Float64Array(size))
  #steps = 0

  step(grads: readonly ArrayLike<number>[], lr: number, { betas, eps, weightDecay, maxGradNorm }: Settings): number {
    const [beta1, beta2] = betas
    const norm = Math.sqrt(grads.reduce((sum, g) => sum + Array.from(g).reduce((s, x) => s + x * x, 0), 0))
    const factor = maxGradNorm > 0 ? Math.min(1, maxGradNorm / (norm + 1e-6)) : 1
    const t = ++this.#steps
    this.params.forEach((p, i) => {
      const decay = shapes[i]!.length > 1 ? weightDecay : 0
      for (let k = 0; k < p.length; k++) {
        const g = grads[i]![k]! * factor
        p[k]! *= 1 - lr * decay
        this.m[i]![k] = beta1 * this.m[i]![k]! + (1 - beta1) * g
        this.v[i]![k] = beta2 * this.v[i]![k]! + (1 - beta2) * g * g
        const denominator = Math.sqrt(this.v[i]![k]!) / Math.sqrt(1 - beta2 ** t) + eps
        p[k]! -= ((lr / (1 - beta1 ** t)) * this.m[i]![k]!) / denominator
      }
    })
    return norm
  }
}

const settings: Settings = { betas: [0.9, 0.99], eps: 1e-8, weightDecay: 0.1, maxGradNorm: 5 }

const setUp = (device: Gpu, options: AdamWOptions = settings) => {
  const params = initial().map((data, i) => device.tensor(data, shapes[i]))
  const optimizer = adamw(params, options)
  const step = device.compile((lr: Tensor, ...grads: Tensor[]) => {
    optimizer.accumulate(grads)
    return optimizer.update({ learningRate: lr, maxGradNorm: settings.maxGradNorm })
  })
  const run = async (t: number, lr: number, grads = gradients(t)) => {
    const inputs = [device.tensor([lr]), ...grads.map((g, i) => device.tensor(g, shapes[i]))]
    const norm = step(...(inputs as [Tensor, ...Tensor[]]))
    const value = await norm.item()
    for (const tensor of [norm, ...inputs]) tensor.dispose()
    return value
  }
  return { params, optimizer, run }
}

const learningRate = (t: number) => 0.01 * (1 - t / 40)

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
    sums.forEach((sum, i) => expectSameBits(sum, a[i]!.map((x, k) => Math.fround(x + b[i]![k]!))))
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
    for (let t = 4; t <= 6; t++)
      for (const { run } of [first, second]) await run(t, learningRate(t))
    const [a, b] = [await gpu.readAll(first.params), await gpu.readAll(second.params)]
    a.forEach((value, i) => expectSameBits(b[i]!, value, `parameter ${i}`))
  })

  test("steps without compiling too, and gives back the loss from before the step", async () => {
    const x = gpu.tensor([1, 2, 3, 4], [2, 2])
    const w = gpu.tensor([0.5, -0.5, 1, 2], [2, 2])
    const optimizer = adamw([w], { lr: 0.1 })
    const losses: number[] = []
    for (let i = 0; i < 3; i++) losses.push(await optimizer.step(valueAndGrad((w) => x.matmul(w).square().mean(), [w])).item())
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
