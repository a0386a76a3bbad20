import { test } from "vitest"
import { testDevice } from "../device.ts"
import { param } from "../gradient.ts"
import { expectAll } from "./many.ts"

const gpu = await testDevice()

test("clamp limits from below, from above, from both sides or not at all, with gradients", async () => {
  const params = [param([3, 5], 1)]
  await expectAll(gpu, {
    both: { params, fn: (x) => x.clamp(-0.4, 0.3), reference: (x) => x.map((v) => Math.min(Math.max(v, -0.4), 0.3)) },
    below: { params, fn: (x) => x.clamp(-0.4), reference: (x) => x.map((v) => Math.max(v, -0.4)) },
    above: { params, fn: (x) => x.clamp(null, 0.3), reference: (x) => x.map((v) => Math.min(v, 0.3)) },
    neither: { params, fn: (x) => x.clamp(), reference: (x) => x },
  })
})
