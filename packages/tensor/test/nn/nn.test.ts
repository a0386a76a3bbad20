import { describe, expect, test } from "vitest"
import {
  adamw,
  embedding,
  grad,
  layerNorm,
  linear,
  nn,
  random,
  readSafetensors,
  rmsNorm,
  ShapeError,
  swiglu,
  writeSafetensors,
  type Gpu,
  type Tensor,
} from "../../src/index.ts"
import { testDevice } from "../device.ts"
import { expectClose, expectSameBits } from "../reference.ts"

const gpu = await testDevice()

class Block extends nn.Module {
  readonly norm: nn.RMSNorm
  readonly layers: readonly nn.Linear[]
  readonly scale: Tensor
  readonly #table: Tensor

  constructor(device: Gpu, seed: number) {
    super()
    this.norm = new nn.RMSNorm(device, 4)
    this.layers = [new nn.Linear(device, 4, 6, { seed }), new nn.Linear(device, 6, 4, { seed: seed + 1, bias: false })]
    this.scale = device.ones([4])
    this.#table = device.ones([4])
  }

  forward(x: Tensor): Tensor {
    const [up, down] = this.layers
    return x.add(down!.forward(up!.forward(this.norm.forward(x)).relu()).mul(this.scale)).mul(this.#table)
  }
}

describe("modules", () => {
  test("name their parameters as PyTorch does, private fields left out", () => {
    const model = new nn.Sequential(new Block(gpu, 1), (x) => x.tanh(), new nn.LayerNorm(gpu, 4))
    expect(Object.entries(model.parameters).map(([name, { shape }]) => `${name} ${shape.join("x")}`)).toEqual([
      "layers.0.norm.weight 4",
      "layers.0.layers.0.weight 6x4",
      "layers.0.layers.0.bias 6",
      "layers.0.layers.1.weight 4x6",
      "layers.0.scale 4",
      "layers.2.weight 4",
      "layers.2.bias 4",
    ])
    expect(model.parameterCount).toBe(4 + 24 + 6 + 24 + 4 + 4 + 4)
  })

  test("a state goes through a safetensors file into another module, under a recorded program too", async () => {
    const [source, target] = [new Block(gpu, 1), new Block(gpu, 50)]
    const x = gpu.normal([3, 4], { seed: 9 })
    const run = gpu.compile((input: Tensor) => target.forward(input))
    expect([...(await run(x).data())]).not.toEqual([...(await source.forward(x).data())])
    const file = await nn.toSafetensors(source)
    expect([...readSafetensors(file, "block.safetensors").tensors.keys()].sort()).toEqual(
      Object.keys(source.parameters).sort(),
    )
    nn.fromSafetensors(target, file, "block.safetensors")
    expectSameBits(await run(x).data(), await source.forward(x).data())
  })

  test("a state that does not fit is refused with every reason, and nothing changes", async () => {
    const block = new Block(gpu, 1)
    const { scale: _, ...state } = await block.stateDict()
    const before = await block.scale.data()
    const wrong = {
      ...state,
      extra: { shape: [1], data: new Float32Array(1) },
      "norm.weight": { shape: [5], data: new Float32Array(5) },
    }
    expect(() => block.loadStateDict(wrong)).toThrow(ShapeError)
    expect(() => block.loadStateDict(wrong)).toThrow(
      /loadStateDict: scale is missing; norm\.weight is \[4\], not \[5\]; there is no parameter extra/,
    )
    expectSameBits(await block.scale.data(), before)
  })

  test("a state of another length or dtype changes nothing, whichever parameter it is", async () => {
    const block = new Block(gpu, 1)
    const state = await new Block(gpu, 50).stateDict()
    const before = await block.stateDict()
    const short = { ...state, scale: { shape: [4], data: new Float32Array(3) } }
    const whole = { ...state, scale: { shape: [4], data: new Int32Array(4) } }
    expect(() => block.loadStateDict(short)).toThrow(/loadStateDict: scale has 4 elements, not 3/)
    expect(() => block.loadStateDict(whole)).toThrow(/loadStateDict: scale is f32, which i32 does not fit/)
    for (const [name, { data }] of Object.entries(await block.stateDict())) expectSameBits(data, before[name]!.data)
    class Frozen extends nn.Module {
      readonly first = gpu.zeros([32])
      readonly weight = gpu.zeros([32]).cast("int8:32")
      override readonly forward = (x: Tensor) => x
    }
    const frozen = new Frozen()
    const ones = { shape: [32], data: new Float32Array(32).fill(1) }
    expect(() => frozen.loadStateDict({ first: ones, weight: ones })).toThrow(/weight is int8:32, which is not made of/)
    expect(await frozen.first.sum().item()).toBe(0)
    frozen.first.dispose()
    expect(() => frozen.loadStateDict({ first: ones, weight: ones })).toThrow(/first has been disposed of; weight/)
  })

  test("parameters are written to a file as what they are, and read back", async () => {
    class Mixed extends nn.Module {
      readonly f32 = gpu.zeros([2])
      readonly f16 = gpu.zeros([3], "f16")
      readonly bf16 = gpu.zeros([3], "bf16")
      readonly i32 = gpu.zeros([2], "i32")
      readonly u32 = gpu.zeros([2], "u32")
      readonly bool = gpu.zeros([3], "bool")
      override readonly forward = (x: Tensor) => x
    }
    const values = {
      f32: Float32Array.of(0.1, -3e38),
      f16: Float32Array.of(0.5, -65504, 2 ** -24),
      bf16: Float32Array.of(0.5, -(2 ** 120), 3),
      i32: Int32Array.of(2 ** 31 - 1, -(2 ** 31)),
      u32: Uint32Array.of(2 ** 32 - 1, 7),
      bool: Uint32Array.of(1, 0, 1),
    }
    const [source, target] = [new Mixed(), new Mixed()]
    source.loadStateDict(
      Object.fromEntries(Object.entries(values).map(([name, data]) => [name, { shape: [data.length], data }])),
    )
    const file = await nn.toSafetensors(source)
    const types = [...readSafetensors(file, "mixed").tensors].map(([name, { dtype }]) => [name, dtype.toLowerCase()])
    expect(types.every(([name, dtype]) => name === dtype)).toBe(true)
    nn.fromSafetensors(target, file, "mixed")
    const state = await target.stateDict()
    for (const [name, data] of Object.entries(values)) expect(state[name]!.data).toEqual(data)
    const int64 = { dtype: "I64", shape: [2], data: new Uint8Array(new BigInt64Array([-3n, 4n]).buffer) } as const
    const float64 = { dtype: "F64", shape: [2], data: new Uint8Array(new Float64Array([0.25, -1]).buffer) } as const
    const tensors = new Map([...readSafetensors(file, "mixed").tensors, ["i32", int64], ["f32", float64]])
    nn.fromSafetensors(target, writeSafetensors(tensors), "wide")
    expect([...(await target.i32.data()), ...(await target.f32.data())]).toEqual([-3, 4, 0.25, -1])
  })

  test("a tensor in two fields is one parameter with two names, as in PyTorch", async () => {
    class Tied extends nn.Module {
      readonly table = new nn.Embedding(gpu, 6, 4, { seed: 1 })
      readonly head = new nn.Linear(gpu, 4, 6, { seed: 2, bias: false })
      readonly again = this.table
      constructor() {
        super()
        Object.assign(this.head, { weight: this.table.weight })
      }
      forward(ids: Tensor): Tensor {
        return this.head.forward(this.table.forward(ids))
      }
    }
    const model = new Tied()
    expect(Object.keys(model.parameters)).toEqual(["table.weight"])
    expect(model.parameterCount).toBe(24)
    const state = await model.stateDict()
    expect(Object.keys(state)).toEqual(["table.weight", "head.weight", "again.weight"])
    expectSameBits(state["head.weight"]!.data, state["table.weight"]!.data)
    const optimizer = adamw(Object.values(model.parameters), { lr: 0.1 })
    const [ids, labels] = [gpu.tensor(Int32Array.of(0, 3)), gpu.tensor(Int32Array.of(1, 4))]
    const step = nn.trainStep(optimizer, () => model.forward(ids).crossEntropy(labels))
    const first = await step().item()
    for (let i = 0; i < 10; i++) step()
    expect(await step().item()).toBeLessThan(first / 2)
    const trained = await model.stateDict()
    expectSameBits(trained["head.weight"]!.data, trained["table.weight"]!.data)
    model.loadStateDict(state)
    expectSameBits(await model.head.weight.data(), state["table.weight"]!.data)
  })

  test("a part may refer back to what holds it", () => {
    class Child extends nn.Module {
      readonly weight = gpu.ones([2])
      constructor(readonly parent: nn.Module) {
        super()
      }
      forward(x: Tensor): Tensor {
        return x.mul(this.weight)
      }
    }
    class Parent extends nn.Module {
      readonly children: readonly Child[] = [new Child(this), new Child(this)]
      forward(x: Tensor): Tensor {
        return this.children.reduce((h, child) => child.forward(h), x)
      }
    }
    expect(Object.keys(new Parent().parameters)).toEqual(["children.0.weight", "children.1.weight"])
  })

  test("initial values are a function of the seed, within PyTorch's bounds", async () => {
    const layer = new nn.Linear(gpu, 25, 40, { seed: 3 })
    const same = new nn.Linear(gpu, 25, 40, { seed: 3 })
    const [weight, bias, again] = await gpu.readAll([layer.weight, layer.bias!, same.weight])
    expectSameBits(again!, weight!)
    expect(Math.max(...weight!.map(Math.abs))).toBeLessThanOrEqual(1 / 5)
    expect(Math.max(...weight!)).toBeGreaterThan(0.19)
    expect(Array.from(bias!)).not.toEqual(Array.from(weight!.slice(0, 40)))
    const table = [...(await new nn.Embedding(gpu, 500, 8, { seed: 1, std: 0.5 }).weight.data())]
    expect(Math.sqrt(table.reduce((sum, x) => sum + x * x, 0) / table.length)).toBeCloseTo(0.5, 1)
  })
})

describe("layers work over the last axis, whatever comes before it", () => {
  const x = gpu.normal([2, 3, 4], { seed: 5 })

  test("Linear, RMSNorm, LayerNorm and Embedding", async () => {
    const layer = new nn.Linear(gpu, 4, 5, { seed: 1 })
    expect(layer.forward(x).shape).toEqual([2, 3, 5])
    const [y, product] = await gpu.readAll([
      layer.forward(x),
      x.matmul(layer.weight, { transposeB: true }).add(layer.bias!),
    ])
    expectClose(y!, product!)
    const rms = x.div(x.square().mean(-1, { keepDims: true }).add(1e-6).sqrt())
    const centred = x.sub(x.mean(-1, { keepDims: true }))
    const normal = centred.div(x.var(-1, { keepDims: true, correction: 0 }).add(1e-5).sqrt())
    const results = await gpu.readAll([
      new nn.RMSNorm(gpu, 4).forward(x),
      rms,
      new nn.LayerNorm(gpu, 4).forward(x),
      normal,
    ])
    expectClose(results[0]!, results[1]!)
    expectClose(results[2]!, results[3]!)
    const table = new nn.Embedding(gpu, 7, 4, { seed: 2 })
    const ids = gpu.tensor(new Int32Array([6, 0, 3, 3]), [2, 2])
    expect(table.forward(ids).shape).toEqual([2, 2, 4])
    expectSameBits(await table.forward(ids).data(), await table.weight.indexSelect(0, ids).data())
  })

  test("and so do the functions under them, with gradients", async () => {
    const flat = x.reshape([6, 4])
    const [weight, bias, scale] = [
      gpu.normal([5, 4], { seed: 6 }),
      gpu.normal([5], { seed: 7 }),
      gpu.normal([4], { seed: 8 }),
    ]
    const residual = gpu.normal([2, 3, 5], { seed: 9 })
    const table = gpu.normal([7, 4], { seed: 10 })
    const ids = gpu.tensor(Int32Array.of(6, 0, 3, 3, 1, 2), [2, 3])
    const pairs: readonly (readonly [of: Tensor, deep: Tensor, flat: Tensor])[] = [
      [
        weight,
        linear(x, weight, { bias, residual }),
        linear(flat, weight, { bias, residual: residual.reshape([6, 5]) }),
      ],
      [scale, layerNorm(x, scale, scale, 1e-5), layerNorm(flat, scale, scale, 1e-5)],
      [scale, rmsNorm(x, scale, 1e-5), rmsNorm(flat, scale, 1e-5)],
      [x, swiglu(x), swiglu(flat)],
      [table, embedding(table, ids), embedding(table, ids.reshape([6]))],
    ]
    for (const [of, deep, plain] of pairs) {
      expect(deep.shape).toEqual([2, 3, plain.shape[1]])
      const [a, b] = [deep, plain].map((y) => [y, ...grad(y.square().sum(), [of])])
      const results = await gpu.readAll([...a!, ...b!])
      expectSameBits(results[0]!, results[2]!)
      expectSameBits(results[1]!, results[3]!)
    }
    expect((await rmsNorm(scale, scale, 1e-5).data()).length).toBe(4)
    expect(() => linear(gpu.ones([]), weight)).toThrow(/linear: needs a last axis/)
  })

  test("Dropout needs a key to drop", async () => {
    const layer = new nn.Dropout(0.5)
    expect(layer.forward(x)).toBe(x)
    const dropped = await layer.forward(gpu.ones([1000]), random.key(gpu, 1)).data()
    expect(new Set(dropped)).toEqual(new Set([0, 2]))
  })
})

describe("training", () => {
  test("a small convolutional network learns which half of an image is bright", async () => {
    const count = 64
    const images = gpu.uniform([count, 1, 6, 6], { seed: 1 })
    const labels = images
      .slice(null, 0, [0, 3])
      .sum([1, 2])
      .greater(images.slice(null, 0, [3, 6]).sum([1, 2]))
      .cast("i32")
    gpu.realize([labels])
    const model = new nn.Sequential(
      new nn.Conv2d(gpu, 1, 4, 3, { seed: 2, padding: 1, stride: 2 }),
      (x) => x.relu().reshape([x.shape[0]!, -1]),
      new nn.Linear(gpu, 36, 2, { seed: 3 }),
    )
    const optimizer = adamw(Object.values(model.parameters), { lr: 0.02 })
    const step = nn.trainStep(optimizer, (ids: Tensor) =>
      model.forward(images.indexSelect(0, ids)).crossEntropy(labels.indexSelect(0, ids)),
    )
    const losses: number[] = []
    for (let epoch = 0; epoch < 12; epoch++)
      for (const batch of nn.shuffledBatches(count, 16, { seed: 7, epoch }))
        losses.push(await step(gpu.tensor(batch)).item())
    expect(losses.at(-1)).toBeLessThan(losses[0]! / 2)
    const right = model.forward(images).argMax(1).equal(labels).mean()
    expect(await right.item()).toBeGreaterThan(0.9)
  })

  test("shuffledBatches go through everything once, in an order of their epoch", () => {
    const all = (epoch: number) => [...nn.shuffledBatches(10, 3, { seed: 1, epoch })].map((batch) => [...batch])
    expect(all(0).map((batch) => batch.length)).toEqual([3, 3, 3])
    expect(new Set(all(0).flat()).size).toBe(9)
    expect(all(0)).toEqual(all(0))
    expect(all(0)).not.toEqual(all(1))
  })
})
