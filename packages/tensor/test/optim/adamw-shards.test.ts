import { expect, test, vi } from "vitest"
import type * as arena from "../../src/optim/arena.ts"
import { arenaLayouts } from "../../src/optim/arena.ts"
import { testDevice } from "../device.ts"
import { collectGarbage } from "../garbage.ts"
import { expectClose } from "../reference.ts"
import { gradients, learningRate, Reference, settings, setUp } from "./adamw-reference.ts"

// Buffers of 512 bytes at most, instead of 128 MiB: the five parameters need four.
vi.mock("../../src/optim/arena.ts", async (original) => {
  const module = await original<typeof arena>()
  return { ...module, arenaLayouts: (params: Parameters<typeof arenaLayouts>[0]) => module.arenaLayouts(params, 512) }
})

const gpu = await testDevice()

test("AdamW over several buffers is AdamW", async () => {
  const reference = new Reference()
  const { params, optimizer, run } = setUp(gpu)
  const names = ["", ".1", ".2", ".3"].flatMap((part) => [`moment1${part}`, `moment2${part}`])
  expect(Object.keys(optimizer.state)).toEqual([...names, "corrections"])
  for (let t = 1; t <= 5; t++) {
    const norm = await run(t, learningRate(t))
    expectClose([norm], [reference.step(gradients(t), learningRate(t), settings)], { abs: 0, rel: 1e-5 }, `norm ${t}`)
  }
  await collectGarbage()
  const values = await gpu.readAll(params)
  values.forEach((value, i) => expectClose(value, reference.params[i]!, { abs: 2e-6, rel: 2e-6 }, `parameter ${i}`))
})

test("a parameter larger than a buffer gets one of its own", () => {
  const layouts = arenaLayouts([[10], [200], [10], [3], [65]].map((shape) => gpu.zeros(shape)))
  expect(layouts.map(({ offsets, bytes }) => ({ offsets, bytes }))).toEqual([
    { offsets: [0], bytes: 256 },
    { offsets: [0], bytes: 1024 },
    { offsets: [0, 256], bytes: 512 },
    { offsets: [0], bytes: 512 },
  ])
})
