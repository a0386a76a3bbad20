import { describe, expect, test } from "vitest"
import { adamw, linear, openDevice, OutOfMemoryError, valueAndGrad, type Tensor } from "../../src/index.ts"
import { Gpu } from "../../src/device/gpu.ts"
import { expectSameBits } from "../reference.ts"

const megabyte = 2 ** 20

/** A training run that goes on for as long as one likes. */
const training = (gpu: Gpu) => {
  const weight = gpu.normal([64, 64], { seed: 1 })
  const optimizer = adamw([weight])
  const step = gpu.compile((x: Tensor) => optimizer.step(valueAndGrad((w) => linear(x, w!).square().mean(), [weight])))
  const run = (count: number) => {
    for (let i = 0; i < count; i++) {
      const x = gpu.normal([32, 64], { seed: 2 + i })
      for (const tensor of [step(x), x]) tensor.dispose()
    }
  }
  return { weight, run }
}

test("training that is refused memory on the way goes on to the same bits, its ledger exact", async () => {
  const gpu = await openDevice({ memoryLimit: 4 * megabyte })
  const undisturbed = training(gpu)
  undisturbed.run(2)
  undisturbed.run(2)
  const expected = await undisturbed.weight.data()

  const { weight, run } = training(gpu)
  run(2)
  const tall = gpu.compile((x: Tensor) => x.reshape([1, 64]).broadcastTo([40_000, 64]).add(1))
  const inside = gpu.compile((x: Tensor) => linear(x.reshape([1, 64]).broadcastTo([40_000, 64]), weight).sum())
  const x = gpu.ones([64])
  /** Bytes of what anybody owns; the workspace may give up what it could not make larger. */
  const owned = () => ({ ...gpu.memory().byOwner, workspace: 0 })
  const before = owned()
  for (const refused of [() => gpu.zeros([2 * megabyte]), () => tall(x), () => inside(x)])
    expect(refused).toThrow(OutOfMemoryError)
  expect(owned()).toEqual(before)
  expect(gpu.memory().peak).toBeLessThanOrEqual(4 * megabyte)
  run(2)
  expectSameBits(await weight.data(), expected)
  gpu.destroy()
})

/** A device whose driver has no memory for the next buffer when it is told so. */
const shortOfMemory = (device: GPUDevice) => {
  const state = { refuses: false }
  const proxy = new Proxy(device, {
    get: (target, key) => {
      if (key === "popErrorScope" && state.refuses) {
        state.refuses = false
        return () => target.popErrorScope().then(() => ({ message: "vkAllocateMemory failed" }))
      }
      const value: unknown = Reflect.get(target, key, target)
      return typeof value === "function" ? value.bind(target) : value
    },
    set: (target, key, value) => Reflect.set(target, key, value, target),
  })
  return { proxy, state }
}

describe("a buffer that the driver has no memory for", () => {
  const open = async () => {
    const { device, adapter } = await openDevice()
    const { proxy, state } = shortOfMemory(device)
    return { gpu: new Gpu(proxy, adapter), state }
  }

  test("is an OutOfMemoryError at the next read, and not handed out again", async () => {
    const { gpu, state } = await open()
    state.refuses = true
    const refused = gpu.tensor(new Float32Array(megabyte), undefined, "mine")
    const error = await refused.data().catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(OutOfMemoryError)
    expect((error as OutOfMemoryError).operation).toBe("mine")
    expect((error as OutOfMemoryError).message).toMatch(/no memory for 4194304 bytes more: vkAllocateMemory failed/)
    const bad = refused.value.node.memory[0]!.buffer
    refused.dispose()
    expect(gpu.memory()).toMatchObject({ inUse: 0, pooled: 0, byOwner: {} })
    const again = gpu.tensor(new Float32Array(megabyte).fill(3))
    expect(again.value.node.memory[0]!.buffer).not.toBe(bad)
    expect(await again.max().item()).toBe(3)
    gpu.destroy()
  })

  test("is not handed out again either when it was given back before the news came", async () => {
    const { gpu, state } = await open()
    state.refuses = true
    const refused = gpu.tensor(new Float32Array(megabyte))
    const bad = refused.value.node.memory[0]!.buffer
    refused.dispose()
    await expect(gpu.sync()).rejects.toThrow(OutOfMemoryError)
    expect(gpu.memory()).toMatchObject({ inUse: 0, pooled: 0 })
    expect(gpu.tensor(new Float32Array(megabyte)).value.node.memory[0]!.buffer).not.toBe(bad)
    await gpu.sync()
    gpu.destroy()
  })

  test("as workspace of a program is replaced before the next run", async () => {
    const { gpu, state } = await open()
    const product = gpu.compile((x: Tensor) => x.matmul(x).exp().matmul(x))
    const x = gpu.eye(16)
    state.refuses = true
    const first = product(x)
    await expect(first.data()).rejects.toThrow(OutOfMemoryError)
    const values = await product(x).data()
    expect(values[0]).toBeCloseTo(Math.E, 6)
    expect(values[1]).toBe(1)
    gpu.destroy()
  })
})
