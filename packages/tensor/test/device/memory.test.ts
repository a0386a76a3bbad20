import { describe, expect, test } from "vitest"
import {
  adamw,
  DeviceLostError,
  openDevice,
  OutOfMemoryError,
  rmsNorm,
  TensorError,
  tokenLogProbs,
  valueAndGrad,
  type Gpu,
  type Tensor,
} from "../../src/index.ts"
import { testDevice } from "../device.ts"
import { collectGarbage } from "../garbage.ts"
import { expectSameBits, randomArray } from "../reference.ts"

const gpu = await testDevice()
const megabyte = 2 ** 20
const floats = (bytes: number): Float32Array<ArrayBuffer> => new Float32Array(bytes / 4)

describe("memory", () => {
  test("counts what tensors hold, by owner, until they are disposed of", () => {
    const before = gpu.memory()
    const tensors = [gpu.tensor(floats(megabyte), undefined, "mine"), gpu.tensor(floats(1024), undefined, "mine")]
    expect(gpu.memory().byOwner["mine"]).toBe(megabyte + 1024)
    expect(gpu.memory().inUse).toBe(before.inUse + megabyte + 1024)
    expect(gpu.memory().peak).toBeGreaterThanOrEqual(gpu.memory().inUse)
    for (const tensor of tensors) tensor.dispose()
    for (const tensor of tensors) tensor.dispose()
    expect(gpu.memory().inUse).toBe(before.inUse)
    expect(gpu.memory().byOwner["mine"]).toBeUndefined()
    expect(gpu.memory().pooled).toBeGreaterThanOrEqual(megabyte + 1024)
  })

  test("that a reshape shares stays with the tensor that owns it", async () => {
    for (const data of [floats(64), new Int32Array(16)]) {
      const owner = gpu.tensor(data)
      const reshaped = owner.reshape([4, 4])
      await reshaped.data()
      reshaped.dispose()
      expect(await owner.data()).toEqual(data)
      owner.dispose()
      await expect(reshaped.data()).rejects.toThrow(/the tensor's memory was disposed of/)
    }
    const one = gpu.ones([16])
    const before = gpu.memory().inUse
    const own = one.add(1).reshape([4, 4])
    await own.data()
    own.dispose()
    expect(gpu.memory().inUse).toBe(before)
  })

  test("is reused, and given back by trim", () => {
    gpu.tensor(floats(megabyte)).dispose()
    const { pooled } = gpu.memory()
    const again = gpu.tensor(floats(megabyte))
    expect(gpu.memory().pooled).toBe(pooled - megabyte)
    again.dispose()
    gpu.trim()
    expect(gpu.memory().pooled).toBe(0)
  })

  test("of each output comes back on its own", async () => {
    const { inUse } = gpu.memory()
    const inputs = [gpu.full([64, 4], 1), gpu.full([9, 4], 1), gpu.tensor(new Int32Array(64))] as const
    const { logProbs, entropy } = tokenLogProbs(...inputs, { temperature: 1 })
    await gpu.readAll([logProbs, entropy])
    gpu.trim()
    logProbs.dispose()
    expect((await entropy.data())[0]).toBeCloseTo(Math.log(9), 5)
    await expect(logProbs.data()).rejects.toThrow(TensorError)
    for (const tensor of [entropy, ...inputs]) tensor.dispose()
    gpu.trim()
    expect(gpu.memory().inUse).toBe(inUse)
  })

  test("comes back by `using`", () => {
    const { inUse } = gpu.memory()
    {
      using tensor = gpu.zeros([1000])
      expect(tensor.size).toBe(1000)
    }
    expect(gpu.memory().inUse).toBe(inUse)
  })

  test("of forgotten tensors comes back with them", async () => {
    await collectGarbage()
    const { inUse } = gpu.memory()
    const forget = () => {
      for (let i = 0; i < 10; i++) gpu.zeros([100_000])
    }
    forget()
    for (let i = 0; i < 20 && gpu.memory().inUse > inUse + 1_000_000; i++) await collectGarbage()
    expect(gpu.memory().inUse).toBeLessThan(inUse + 1_000_000)
  })

  test("does not grow over a hundred training steps", async () => {
    const params = [gpu.normal([32, 16], { seed: 1 }), gpu.full([16], 1), gpu.normal([40, 16], { seed: 2 })]
    const optimizer = adamw(params)
    const step = gpu.compile((x: Tensor, targets: Tensor, learningRate: Tensor) => {
      const { value, grads } = valueAndGrad((w, norm, head) => {
        const hidden = rmsNorm(x.matmul(w), norm, 1e-5)
        return tokenLogProbs(hidden, head, targets, { temperature: 1 }).logProbs.mean().neg()
      }, params)
      optimizer.accumulate(grads)
      return { loss: value, norm: optimizer.update({ learningRate, maxGradNorm: 1 }) }
    })
    const run = async (i: number) => {
      const targets = new Int32Array(10).map((_, row) => (7 * i + row) % 40)
      const inputs = [gpu.tensor(randomArray(320, i), [10, 32]), gpu.tensor(targets), gpu.tensor([1e-3])] as const
      const outputs = step(...inputs)
      const [loss] = await gpu.readAll(Object.values(outputs))
      for (const tensor of [...inputs, ...Object.values(outputs)]) tensor.dispose()
      return loss![0]!
    }
    for (let i = 0; i < 3; i++) await run(i)
    const { inUse, pooled } = gpu.memory()
    for (let i = 0; i < 100; i++) expect(await run(i)).toBeGreaterThan(0)
    expect(gpu.memory()).toMatchObject({ inUse, pooled })
  })

  test("of parameters outlives their optimiser", async () => {
    const data = randomArray(300, 3)
    const param = gpu.tensor(data)
    const train = () => adamw([param]).dispose()
    train()
    for (let i = 0; i < 5; i++) await collectGarbage()
    const others = Array.from({ length: 8 }, () => gpu.full([512], 7))
    expectSameBits(await param.data(), data)
    for (const other of others) other.dispose()
  })
})

describe("a tensor that was disposed of", () => {
  test("is not read, nor computed with", async () => {
    const x = gpu.tensor([1, 2])
    const y = x.add(1)
    x.dispose()
    await expect(x.data()).rejects.toThrow(TensorError)
    await expect(x.data()).rejects.toThrow(/disposed/)
    await expect(y.data()).rejects.toThrow(TensorError)
    expect(() => gpu.compile((t: Tensor) => t.add(1))(x)).toThrow(TensorError)
  })
})

describe("a memory limit", () => {
  const limit = 16 * megabyte
  const works = async (device: Gpu) => {
    const x = device.tensor([1, 2, 3])
    const y = x.mul(2)
    expect([...(await y.data())]).toEqual([2, 4, 6])
    for (const tensor of [x, y]) tensor.dispose()
  }

  test("refuses the tensor that would pass it, and no other", async () => {
    const device = await openDevice({ memoryLimit: limit })
    const first = device.tensor(floats(10 * megabyte))
    expect(() => device.tensor(floats(8 * megabyte))).toThrow(OutOfMemoryError)
    expect(() => device.tensor(floats(8 * megabyte))).toThrow(/limit/)
    await works(device)
    first.dispose()
    device.tensor(floats(12 * megabyte)).dispose()
    expect(device.memory().peak).toBeLessThanOrEqual(limit)
    device.destroy()
  })

  test("refuses a program whose intermediates or outputs would pass it, and leaves nothing behind", async () => {
    const device = await openDevice({ memoryLimit: limit })
    const grow = device.compile((x: Tensor) => {
      const wide = x.reshape([1, 1024]).broadcastTo([3000, 1024]).mul(2)
      return [wide.sum(0), wide.mul(3), wide.sum(1)]
    })
    const small = device.compile((x: Tensor) => x.broadcastTo([1000, 1024]).mul(3).sum(0))
    const x = device.full([1024], 1)
    const first = small(x)
    expect((await first.data())[0]).toBe(3000)
    first.dispose()
    const { inUse, byOwner } = device.memory()
    for (let i = 0; i < 3; i++) expect(() => grow(x)).toThrow(OutOfMemoryError)
    const workspace = (owners: Readonly<Record<string, number>>) => owners["workspace"] ?? 0
    expect(device.memory().inUse - workspace(device.memory().byOwner)).toBe(inUse - workspace(byOwner))
    await works(device)
    const second = small(x)
    expect((await second.data())[0]).toBe(3000)
    device.destroy()
  })
})

test("a destroyed device says so", async () => {
  const device = await openDevice()
  const x = device.tensor([1])
  const add = device.compile((t: Tensor) => t.add(1))
  device.destroy()
  await expect(x.data()).rejects.toThrow(DeviceLostError)
  await expect(device.sync()).rejects.toThrow(DeviceLostError)
  expect(() => add(x)).toThrow(DeviceLostError)
})
