import { expect, test } from "vitest"
import { softCap } from "../../src/index.ts"
import { testDevice } from "../device.ts"
import { expectDifferentiable, param } from "../gradient.ts"

const gpu = await testDevice()

test.each([
  ["values far below the cap", [5, 7], 30, 3],
  ["values around the cap", [3, 66], 2, 5],
  ["a vector", [131], 50, 60],
] as const)("softCap of %s, with gradients", async (_, shape, cap, range) => {
  await expectDifferentiable(gpu, {
    params: [param(shape, 1, -range, range)],
    fn: (x) => softCap(x, cap),
    reference: (x) => x.map((value) => cap * Math.tanh(value / cap)),
  })
})

test("softCap keeps what is huge within the cap, with no gradient left", async () => {
  const x = gpu.tensor(Float32Array.of(1e4, -1e30, 300))
  expect([...(await softCap(x, 30).data())]).toEqual([30, -30, expect.closeTo(30, 5)])
})
