import { describe, expect, test } from "vitest"
import {
  adamw,
  isRehearsal,
  linear,
  openDevice,
  OutOfMemoryError,
  plan,
  rehearsalOf,
  valueAndGrad,
  type Gpu,
} from "../../src/index.ts"

/** Two training steps, the second on a larger batch, and what the ledger said after each. */
const trainTwice = async (gpu: Gpu) => {
  const weights = [gpu.normal([96, 32], { seed: 1 }), gpu.normal([32, 96], { seed: 2 })]
  const optimizer = adamw(weights)
  const step = gpu.compile((x) =>
    optimizer.step(valueAndGrad((up, down) => linear(linear(x, up!).silu(), down!).square().mean(), weights)),
  )
  const reports = []
  for (const rows of [64, 320]) {
    const x = gpu.zeros([rows, 32])
    const loss = step(x)
    await loss.data()
    reports.push(gpu.memory())
    x.dispose()
    loss.dispose()
  }
  return reports
}

describe("a rehearsal", () => {
  test("keeps the ledger of the real thing and reads zeros", async () => {
    const gpu = await openDevice()
    const rehearsal = rehearsalOf(gpu)
    expect(await trainTwice(rehearsal)).toEqual(await trainTwice(gpu))
    expect([...(await rehearsal.tensor([1, 2, 3]).exp().data())]).toEqual([0, 0, 0])
    expect([isRehearsal(gpu), isRehearsal(rehearsal)]).toEqual([false, true])
    gpu.destroy()
  })

  test("plans what a run takes", async () => {
    const gpu = await openDevice()
    const planned = await plan(gpu, trainTwice)
    expect(gpu.memory().peak).toBe(0)
    await trainTwice(gpu)
    expect(planned).toEqual(gpu.memory())
    await expect(plan(gpu, trainTwice, { memoryLimit: planned.peak / 2 })).rejects.toThrow(OutOfMemoryError)
    gpu.destroy()
  })

  test("runs out of memory where the real thing would", async () => {
    const gpu = await openDevice()
    const { peak } = (await trainTwice(rehearsalOf(gpu))).at(-1)!
    await trainTwice(rehearsalOf(gpu, { memoryLimit: peak }))
    await expect(trainTwice(rehearsalOf(gpu, { memoryLimit: peak / 2 }))).rejects.toThrow(OutOfMemoryError)
    gpu.destroy()
  })
})

test("a rehearsal for another device has that one's largest binding", async () => {
  const gpu = await openDevice()
  const sum = (device: Gpu) => device.compile((x) => x.add(1).sum()).explain(device.zeros([1024]))
  expect(() => sum(rehearsalOf(gpu, { maxBindingSize: 2048 }))).toThrow(/read or write 4096 bytes .* adapter's 2048/)
  expect(sum(rehearsalOf(gpu, { maxBindingSize: 2 ** 32 })).launches).toBeGreaterThan(0)
  gpu.destroy()
})

test("a workspace that grows leaves nothing of its old size behind", async () => {
  const memoryAfter = async (sizes: readonly number[]) => {
    const gpu = await openDevice()
    const square = gpu.compile((x) => x.matmul(x, { transposeB: true }).exp().sum(1))
    for (const rows of sizes) square(gpu.zeros([rows, 256]))
    const { byOwner, pooled } = gpu.memory()
    gpu.destroy()
    expect(byOwner["workspace"]).toBeGreaterThanOrEqual(512 * 512 * 4)
    return { workspace: byOwner["workspace"], pooled }
  }
  const grown = await memoryAfter([128, 256, 512])
  expect(grown).toEqual(await memoryAfter([512]))
  expect(grown.pooled).toBe(0)
})
