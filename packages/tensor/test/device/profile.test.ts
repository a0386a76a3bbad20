import { describe, expect, test } from "vitest"
import {
  adamw,
  linear,
  rehearsalOf,
  rmsNorm,
  TensorError,
  valueAndGrad,
  type Gpu,
  type Tensor,
} from "../../src/index.ts"
import { profileOf } from "../../src/device/profile.ts"
import { timeLaunches } from "../../src/program/timing.ts"
import { testDevice } from "../device.ts"
import { expectSameBits } from "../reference.ts"

const gpu = await testDevice()

/** `device` as it would be without the feature `timestamp-query`. */
const withoutClock = (device: GPUDevice): GPUDevice =>
  new Proxy(device, {
    get: (target, key) => {
      if (key === "features") return new Set([...target.features].filter((name) => name !== "timestamp-query"))
      const value: unknown = Reflect.get(target, key, target)
      return typeof value === "function" ? value.bind(target) : value
    },
  })

/** A training step, with its weights. */
const training = (gpu: Gpu, name = "step") => {
  const weights = [gpu.normal([96, 32], { seed: 1 }), gpu.normal([32, 96], { seed: 2 }), gpu.ones([32])]
  const optimizer = adamw(weights)
  const step = gpu.compile(
    (x: Tensor) =>
      optimizer.step(
        valueAndGrad((up, down, norm) => {
          const hidden = linear(rmsNorm(x, norm!, 1e-5), up!).silu()
          return linear(hidden, down!).square().mean()
        }, weights),
      ),
    { name },
  )
  return { step, weights, x: gpu.normal([64, 32], { seed: 3 }) }
}

const counts = (names: readonly string[]): ReadonlyMap<string, number> => {
  const found = new Map<string, number>()
  for (const name of names) found.set(name, (found.get(name) ?? 0) + 1)
  return found
}

describe("a profile", () => {
  test("names every launch that explain names, and its parts add up", async () => {
    const { step, x } = training(gpu)
    const profile = await step.profile(x)
    const { kernels, launches } = step.explain(x)
    expect(profile.launches).toBe(launches)
    expect(new Map(profile.kernels.map((kernel) => [kernel.name, kernel.launches]))).toEqual(counts(kernels))
    expect(profile.total).toBeCloseTo(
      profile.kernels.reduce((sum, { total }) => sum + total, 0),
      6,
    )
    expect(profile.kernels.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1, 6)
    for (const kernel of profile.kernels) {
      expect(kernel.total, kernel.name).toBeGreaterThanOrEqual(0)
      expect(kernel.median * kernel.launches).toBeLessThanOrEqual(2 * kernel.total)
      expect(kernel.bytes).toBeGreaterThan(0)
    }
    const flops = profile.kernels.reduce((sum, kernel) => sum + (kernel.flops ?? 0), 0)
    // Two products forward, and for each of them the gradients of its input and of its weight.
    expect(flops).toBe(6 * 2 * 64 * 32 * 96)
  })

  test("runs the step once: what it updates is updated, what it returns is given back", async () => {
    const [profiled, called] = [training(gpu, "profiled"), training(gpu)]
    await profiled.step.profile(profiled.x)
    await profiled.step.profile(profiled.x)
    expect(gpu.memory().byOwner["profiled"]).toBeUndefined()
    for (let i = 0; i < 2; i++) called.step(called.x).dispose()
    for (const [i, weight] of profiled.weights.entries())
      expectSameBits(await weight.data(), await called.weights[i]!.data(), `weight ${i}`)
  })

  test("keeps others from running meanwhile, and is over when it is over", async () => {
    const { step, x } = training(gpu)
    const profiling = step.profile(x)
    await Promise.resolve()
    expect(() => step(x)).toThrow(TensorError)
    expect(() => step(x)).toThrow(/profile.*await it/)
    await profiling
    expect(Number.isFinite(await step(x).item())).toBe(true)
  })

  test("is refused where nothing runs", async () => {
    const { step, x } = training(rehearsalOf(gpu))
    await expect(step.profile(x)).rejects.toThrow(/rehearsal/)
  })
})

test("launches are timed by the GPU's clock where there is one, and else by waiting for each", async () => {
  const { device } = gpu
  const code = `@group(0) @binding(0) var<storage, read_write> x: array<u32>;
    @compute @workgroup_size(1) fn main() { x[0] = x[0] * 3u + 1u; }`
  const pipeline = device.createComputePipeline({
    layout: "auto",
    compute: { module: device.createShaderModule({ code }) },
  })
  const methods = []
  for (const timed of [device, withoutClock(device)]) {
    const buffer = device.createBuffer({ size: 16, usage: 0x80 | 0x04 | 0x08 })
    const staging = device.createBuffer({ size: 16, usage: 0x01 | 0x08 })
    const entries = [{ binding: 0, resource: { buffer } }]
    const group = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries })
    const encoder = device.createCommandEncoder()
    device.queue.writeBuffer(buffer, 0, new Uint32Array([5, 0, 0, 0]))
    const launch = (pass: GPUComputePassEncoder) => {
      pass.setPipeline(pipeline)
      pass.setBindGroup(0, group)
      pass.dispatchWorkgroups(1)
    }
    const { method, times } = await timeLaunches(timed, encoder, [launch, launch, launch])
    methods.push(method)
    expect(times).toHaveLength(3)
    for (const time of times) expect(time).toBeGreaterThanOrEqual(0)
    const copy = device.createCommandEncoder()
    copy.copyBufferToBuffer(buffer, 0, staging, 0, 16)
    device.queue.submit([copy.finish()])
    await staging.mapAsync(1)
    // Each ran once, in order: 5 → 16 → 49 → 148.
    expect(new Uint32Array(staging.getMappedRange())[0]).toBe(148)
  }
  expect(methods).toEqual([device.features.has("timestamp-query") ? "timestamps" : "waits", "waits"])
})

test("a profile adds up launches of one name, and prints as a table", () => {
  const work = [
    { name: "a", bytes: 1000, flops: 4000 },
    { name: "b", bytes: 500, flops: undefined },
    { name: "a", bytes: 1000, flops: 4000 },
  ]
  const profile = profileOf(work, { method: "waits", times: [1e6, 6e6, 2e6] })
  expect(profile.kernels).toEqual([
    { name: "b", launches: 1, total: 6, median: 6, share: 6 / 9, bytes: 500, flops: undefined },
    { name: "a", launches: 2, total: 3, median: 1.5, share: 3 / 9, bytes: 2000, flops: 8000 },
  ])
  const [header, first, second, last] = String(profile).split("\n")
  expect(header).toMatch(/kernel +launches +ms +share +µs each +GB\/s +GFLOP\/s/)
  expect(first).toMatch(/^b +1 +6\.000 +66\.7 % +6000\.0/)
  expect(second).toMatch(/^a +2 +3\.000 +33\.3 % +1500\.0/)
  expect(last).toMatch(/^3 launches, 9\.000 ms, each launch waited for/)
})
