import { heapStats } from "bun:jsc"
import { describe, expect, test } from "vitest"
import { adamw, nn, openDevice, valueAndGrad, type MemoryReport, type Tensor } from "../../src/index.ts"
import { collectGarbage } from "../garbage.ts"

// A run of 100,000: RLPT_STEPS=100000 bun --bun vitest run test/device/endurance.test.ts
const steps = Number(process.env["RLPT_STEPS"] ?? 600)
const samples = 6
/** Longest that so many steps may take where the driver is slow and the machine busy. */
const timeout = 60_000 + 60 * steps

// A device of its own, on which nothing else comes and goes.
const gpu = await openDevice()
const model = new nn.Sequential(
  new nn.Linear(gpu, 8, 16, { seed: 1 }),
  (x) => x.relu(),
  new nn.Linear(gpu, 16, 4, { seed: 2 }),
)
const parameters = Object.values(model.parameters)
const optimizer = adamw(parameters, { lr: 1e-3 })
const loss = (x: Tensor, y: Tensor): Tensor => model.forward(x).crossEntropy(y)
const recorded = nn.trainStep(optimizer, loss)
const batch = (step: number): [Tensor, Tensor] => [
  gpu.normal([32, 8], { seed: step }),
  gpu.tensor(Int32Array.from({ length: 32 }, (_, i) => (step + i) % 4)),
]

interface Sample {
  readonly gpu: MemoryReport
  /** Objects that JavaScript holds. */
  readonly objects: number
  /** Megabytes that the process holds, native code and drivers included. */
  readonly process: number
}

const sample = async (): Promise<Sample> => {
  for (let i = 0; i < 3; i++) await collectGarbage()
  await gpu.sync()
  return { gpu: gpu.memory(), objects: heapStats().objectCount, process: process.memoryUsage().rss / 1e6 }
}

/** Memory after each sixth of all steps. The first is warm-up: kernels are built and pools filled. */
const run = async (step: (index: number) => Promise<unknown>): Promise<readonly Sample[]> => {
  const taken: Sample[] = []
  for (let i = 0; i < steps; i++) {
    await step(i)
    if ((i + 1) % Math.floor(steps / samples) === 0) taken.push(await sample())
  }
  if (process.env["RLPT_STEPS"])
    for (const { gpu, objects, process: megabytes } of taken)
      process.stdout.write(
        `in use ${gpu.inUse} B, pooled ${gpu.pooled} B, ${objects} objects, process ${megabytes.toFixed(1)} MB\n`,
      )
  return taken
}

/** `exact`: the GPU's ledger is the same to the byte. Otherwise a few tensors may wait for the garbage collector. */
const expectFlat = (taken: readonly Sample[], { exact }: { readonly exact: boolean }): void => {
  const [first, ...rest] = taken
  for (const later of rest) {
    if (exact) expect(later.gpu).toEqual(first!.gpu)
    else expect(later.gpu.inUse - first!.gpu.inUse).toBeLessThan(256 * (steps / 30))
    // Garbage collectors and drivers take and give back in large pieces.
    expect(later.process - first!.process).toBeLessThan(64)
  }
  // Code that is compiled late is objects too, at one time or another; one more for every step shows each time.
  const gains = rest.map(({ objects }, i) => objects - taken[i]!.objects).sort((a, b) => a - b)
  expect(gains[Math.floor(gains.length / 2)]!).toBeLessThan(steps / samples / 2)
}

describe(`${steps} small steps hold memory flat`, () => {
  test("of a recorded training step, in scopes", { timeout }, async () => {
    const taken = await run(async (i) => {
      using _scope = gpu.scope()
      expect(await recorded(...batch(i)).item()).toBeGreaterThan(0)
    })
    expectFlat(taken, { exact: true })
  })

  test("of training without recording, in scopes", { timeout }, async () => {
    const taken = await run(async (i) => {
      using _scope = gpu.scope()
      const [x, y] = batch(i)
      expect(await optimizer.step(valueAndGrad(() => loss(x, y), parameters)).item()).toBeGreaterThan(0)
    })
    expectFlat(taken, { exact: true })
  })

  test("of a recorded training step whose tensors are left to the garbage collector", { timeout }, async () => {
    const taken = await run((i) => recorded(...batch(i)).item())
    expectFlat(taken, { exact: false })
  })

  test("of a running value that scopes keep", { timeout }, async () => {
    let total = gpu.zeros([])
    const taken = await run(async (i) => {
      using scope = gpu.scope()
      using before = total
      total = scope.keep(before.add(1))
      expect(await total.item()).toBe(i + 1)
    })
    expectFlat(taken, { exact: true })
  })

  test("of a running value whose gradient is stopped, left to the garbage collector", { timeout }, async () => {
    let total = gpu.zeros([])
    const taken = await run(async (i) => {
      total = total.add(1).stopGradient()
      expect(await total.item()).toBe(i + 1)
    })
    expectFlat(taken, { exact: false })
  })
})
