import { describe, expect, test } from "vitest"
import { adamw, grad, openDevice, TensorError, valueAndGrad, type Tensor } from "../../src/index.ts"
import { testDevice } from "../device.ts"
import { collectGarbage } from "../garbage.ts"

const gpu = await testDevice()
const inUse = () => gpu.memory().byOwner["tensor"] ?? 0

describe("a scope", () => {
  test("gives back at its end what was made in it, read or not", async () => {
    const x = gpu.ones([1000])
    await collectGarbage()
    const before = inUse()
    let inner: Tensor | undefined
    // Named, so that the collector leaves them to the scope.
    const made: Tensor[] = []
    {
      using scope = gpu.scope()
      inner = x.mul(2)
      made.push(inner.sum(), gpu.zeros([500]))
      expect(await made[0]!.item()).toBe(2000)
      await inner.data()
      expect(scope.report().tensors).toBe(3)
      expect(scope.report().bytes).toBe(4000 + 2000 + 16)
    }
    for (const gone of made) await expect(gone.data()).rejects.toThrow(TensorError)
    // Garbage of other tests may be given back meanwhile, so there can be less.
    expect(inUse()).toBeLessThanOrEqual(before)
    await expect(inner.data()).rejects.toThrow(TensorError)
    expect(await x.sum().item()).toBe(1000)
  })

  test("keeps what it is told to, and computes it before its sources go", async () => {
    const total = (() => {
      using scope = gpu.scope()
      const source = gpu.full([10], 3)
      const [a, b] = scope.keep([source.sum(), source.mul(2)])
      return { a: a!, b: b! }
    })()
    expect(await total.a.item()).toBe(30)
    expect([...(await total.b.data())]).toEqual(Array(10).fill(6))
    total.a.dispose()
    total.b.dispose()
  })

  test("leaves alone what was made before it and is computed in it", async () => {
    const before = gpu.ones([10]).mul(2)
    let between: Tensor
    {
      using outer = gpu.scope()
      between = before.add(1)
      {
        using scope = gpu.scope()
        expect(await between.add(before).sum().item()).toBe(50)
        expect(await between.sum().item()).toBe(30)
        await gpu.readAll([before, between])
        expect(scope.report()).toEqual({ tensors: 2, bytes: 32 })
      }
      expect([...(await between.data())]).toEqual(Array(10).fill(3))
      expect(outer.report()).toEqual({ tensors: 1, bytes: 48 })
    }
    await expect(between.data()).rejects.toThrow(TensorError)
    expect([...(await before.data())]).toEqual(Array(10).fill(2))
  })

  test("ends, and with it the gradients of what it keeps", async () => {
    const w = gpu.tensor([1, 2, 3])
    let kept: Tensor
    {
      using scope = gpu.scope()
      kept = scope.keep(w.square())
      expect([...(await grad(kept.sum(), [w])[0]!.data())]).toEqual([2, 4, 6])
    }
    const [later, own] = grad(kept.mul(w).sum(), [w, kept])
    expect([...(await later!.data())]).toEqual([1, 4, 9])
    expect([...(await own!.data())]).toEqual([1, 2, 3])
  })

  test("hands what it keeps to the scope around it", async () => {
    await collectGarbage()
    const before = inUse()
    {
      using _outer = gpu.scope()
      let kept: Tensor
      {
        using innermost = gpu.scope()
        kept = innermost.keep(gpu.ones([10]).mul(4))
      }
      expect(await kept.sum().item()).toBe(40)
    }
    // Garbage of other tests may be given back meanwhile, so there can be less.
    expect(inUse()).toBeLessThanOrEqual(before)
  })

  test("leaves alone what optimisers and recorded programs live on", async () => {
    const w = gpu.ones([4])
    const { optimizer, step } = (() => {
      using _scope = gpu.scope()
      const made = adamw([w], { lr: 0.1 })
      const compiled = gpu.compile((x: Tensor) =>
        made.step(
          valueAndGrad(
            (p) =>
              p!
                .mul(x)
                .add(gpu.tensor([1, 2, 3, 4]))
                .square()
                .sum(),
            [w],
          ),
        ),
      )
      compiled(gpu.ones([4]))
      return { optimizer: made, step: compiled }
    })()
    const others = Array.from({ length: 8 }, () => gpu.full([64], 9))
    expect(await step(gpu.ones([4])).item()).toBeLessThan(2 ** 2 + 3 ** 2 + 4 ** 2 + 5 ** 2)
    expect((await w.data()).every((value) => value < 1)).toBe(true)
    for (const other of others) other.dispose()
    optimizer.dispose()
  })

  test("a loop in scopes holds its memory flat", async () => {
    const w = gpu.ones([64, 64])
    let held = 0
    for (let i = 0; i < 20; i++) {
      using _scope = gpu.scope()
      await w.matmul(w).tanh().sum().item()
      if (i === 0) held = gpu.memory().inUse
      // Less where the collector found what earlier tests forgot.
      expect(gpu.memory().inUse).toBeLessThanOrEqual(held)
    }
  })
})

describe("leaks", () => {
  test("are what only the garbage collector gave back, by where it was made", async () => {
    const device = await openDevice({ trackLeaks: true })
    const forget = () => {
      for (let i = 0; i < 3; i++) device.ones([256])
    }
    forget()
    device.ones([8]).dispose()
    {
      using _scope = device.scope()
      device.ones([8])
    }
    for (let i = 0; i < 20 && device.leaks().length === 0; i++) await collectGarbage()
    const leaks = device.leaks()
    expect(leaks.length).toBe(1)
    expect(leaks[0]!.site).toMatch(/scope\.test/)
    expect(leaks[0]!.bytes).toBe(leaks[0]!.tensors * 1024)
    expect(gpu.leaks()).toEqual([])
    device.destroy()
  })
})
