import { expect, test } from "vitest"
import {
  adamw,
  advanceDecoding,
  attention,
  embedding,
  gluLinear,
  layerNorm,
  linear,
  requestGpu,
  rmsNorm,
  tokenLogProbs,
  valueAndGrad,
  type Tensor,
} from "../../src/index.ts"
import { Gpu } from "../../src/device/gpu.ts"

/** A device with the limits that WebGPU guarantees everywhere: eight storage buffers for a kernel, among others. */
const open = async (): Promise<Gpu> => {
  const { adapter, info } = await requestGpu()
  const features = (["subgroups"] as const).filter((feature) => adapter.features.has(feature))
  const gpu = new Gpu(await adapter.requestDevice({ requiredFeatures: features }), info)
  expect(gpu.device.limits.maxStorageBuffersPerShaderStage).toBe(8)
  return gpu
}

/** The most storage buffers that a kernel of those tried here binds. */
const countingBuffers = (gpu: Gpu): { most: number } => {
  const counted = { most: 0 }
  const { device } = gpu
  const create = device.createBindGroupLayout.bind(device)
  device.createBindGroupLayout = (descriptor) => {
    const storage = [...descriptor.entries].filter(({ buffer }) => buffer?.type !== "uniform")
    counted.most = Math.max(counted.most, storage.length)
    return create(descriptor)
  }
  return counted
}

test("a language model trains and decodes on the limits that WebGPU guarantees everywhere", async () => {
  const gpu = await open()
  const counted = countingBuffers(gpu)
  const [tokens, width] = [6, 32]
  const weight = (rows: number, columns: number, seed: number) => gpu.normal([rows, columns], { seed, std: 0.1 })
  const parameters = [
    weight(20, width, 1),
    weight(width, width, 2),
    weight(2 * width, width, 3),
    weight(4 * width, width, 4),
    weight(width, 2 * width, 5),
    gpu.ones([width]),
    gpu.zeros([width]),
  ]
  const ids = gpu.tensor(Int32Array.from({ length: tokens }, (_, i) => i * 3))
  const targets = gpu.tensor(Int32Array.from({ length: tokens }, (_, i) => i * 3 + 1))
  const spans = gpu.tensor(
    Int32Array.from({ length: 4 * tokens }, (_, i) => [0, 0, 0, (i >> 2) + 1][i % 4]!),
    [tokens, 4],
  )
  const optimizer = adamw(parameters, { lr: 1e-2 })
  const step = gpu.compile(() =>
    optimizer.step(
      valueAndGrad((...p: Tensor[]) => {
        const [table, query, keyValue, up, down, scale, shift] = p as [
          Tensor,
          Tensor,
          Tensor,
          Tensor,
          Tensor,
          Tensor,
          Tensor,
        ]
        const x = embedding(table, ids)
        const normed = rmsNorm(x, scale, 1e-5)
        const heads = { heads: 2, kvHeads: 2, headDim: width / 2 }
        const mixed = attention(linear(normed, query), linear(normed, keyValue), spans, heads)
        const hidden = layerNorm(x.add(mixed), scale, shift, 1e-5)
        const out = linear(gluLinear(hidden, up, "silu"), down, { residual: hidden })
        const { logProbs, entropy } = tokenLogProbs(out, table, targets, { temperature: 1 })
        return logProbs.mean().neg().sub(entropy.mean().mul(1e-3))
      }, parameters),
    ),
  )
  const losses = []
  for (let i = 0; i < 8; i++) losses.push(await step().item())
  expect(losses.at(-1)).toBeLessThan(losses[0]!)

  // Sums of many tensors are fused, but into no kernel with more operands than it may have.
  const many = Array.from({ length: 12 }, (_, i) => gpu.full([40], i + 1))
  expect((await many.reduce((sum, each) => sum.add(each)).data())[0]).toBe(78)

  const integers = (...values: number[]) => gpu.tensor(Int32Array.from(values))
  const state = {
    tokens: integers(1),
    positions: integers(4),
    rows: integers(4),
    spans: gpu.tensor(Int32Array.of(0, 0, 0, 5), [1, 4]),
    keys: gpu.tensor(Uint32Array.of(1, 2, 3, 0), [1, 4]),
    lengths: integers(0),
    limits: integers(3),
    completions: gpu.tensor(Int32Array.of(0, 0, 0), [1, 3]),
    logProbs: gpu.zeros([1, 3]),
  }
  advanceDecoding(state, integers(7), gpu.tensor([-0.5]), integers(9))
  const [last, completions] = await gpu.readAll([state.tokens, state.completions])
  expect([[...last!], [...completions!]]).toEqual([[7], [7, 0, 0]])

  expect(counted.most).toBe(8)
  gpu.destroy()
})
