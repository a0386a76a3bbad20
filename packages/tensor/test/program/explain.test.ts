import { expect, test } from "vitest"
import { rmsNorm, type Tensor } from "../../src/index.ts"
import { testDevice } from "../device.ts"

const gpu = await testDevice()

test("a tensor that was not read tells what reading it would launch, as data and as text", async () => {
  const x = gpu.tensor([1, 2, 3, 4], [2, 2])
  const y = x.matmul(x).add(1).exp().sum()
  const explanation = gpu.explain(y)
  expect(explanation.launches).toBe(2)
  expect(String(explanation)).toMatch(
    /^1 {2}matmul nn store: .*\n2 {2}sum of add, exp\n2 launches, \d+ B of workspace$/,
  )
  expect(gpu.explain(x)).toMatchObject({ launches: 0, kernels: [], workspaceBytes: 0 })
  await y.item()
  expect(gpu.explain(y).launches).toBe(0)
})

test("a compiled function tells its kernels and its workspace", () => {
  const norm = gpu.ones([12])
  const compiled = gpu.compile((x: Tensor) => rmsNorm(x.add(1), norm, 1e-5).sum(1))
  const { launches, kernels, workspaceBytes } = compiled.explain(gpu.ones([4, 12]))
  expect(launches).toBe(3)
  expect(kernels).toHaveLength(3)
  expect(kernels.some((kernel) => kernel.startsWith("rmsNorm"))).toBe(true)
  expect(workspaceBytes).toBeGreaterThan(0)
  const x = gpu.ones([3])
  expect(String(gpu.compile(() => x.mul(2)).explain())).toMatch(/^1 {2}mul\n1 launch, \d+ B of workspace$/)
})
