import { describe, expect, test, vi } from "vitest"
import {
  adamw,
  embedding,
  grad,
  linear,
  openDevice,
  rmsNorm,
  ShapeError,
  swiglu,
  TensorError,
  valueAndGrad,
  type Tensor,
} from "../../src/index.ts"
import { Storage } from "../../src/device/storage.ts"
import { testDevice } from "../device.ts"
import { collectGarbage } from "../garbage.ts"
import { expectClose, expectSameBits, randomArray } from "../reference.ts"

const gpu = await testDevice()

const random = (shape: readonly number[], seed: number): Tensor =>
  gpu.tensor(
    randomArray(
      shape.reduce((a, b) => a * b, 1),
      seed,
    ),
    shape,
  )

/** `size` elements of `whole` from `start` on, as an optimiser's buffer holds its parameters. */
const part = (whole: Tensor, start: number, size: number): Tensor => {
  const { buffer, offset } = whole.value.node.memory[0]!
  return gpu.wrap(new Storage(buffer, offset + 4 * start, 16 * Math.ceil(size / 4), undefined, whole), [size], "f32")
}

describe("a compiled function", () => {
  const [w1, w2, norm] = [random([24, 12], 1), random([5, 12], 2), random([12], 3)]
  const loss = (x: Tensor, target: Tensor) =>
    linear(swiglu(linear(rmsNorm(x, norm, 1e-5), w1)), w2)
      .sub(target)
      .square()
      .mean()

  test("gives the bits of running it directly, at every shape", async () => {
    const step = gpu.compile((x: Tensor, target: Tensor) => {
      const { value, grads } = valueAndGrad(() => loss(x, target), [w1, w2, norm])
      return { value, w1: grads[0]!, w2: grads[1]!, norm: grads[2]! }
    })
    for (const rows of [4, 1, 9, 4]) {
      const [x, target] = [random([rows, 12], 10 + rows), random([rows, 5], 20 + rows)]
      const { value, grads } = valueAndGrad(() => loss(x, target), [w1, w2, norm])
      const direct = await gpu.readAll([value, ...grads])
      const compiled = await gpu.readAll(Object.values(step(x, target)))
      compiled.forEach((array, i) => expectSameBits(array, direct[i]!, `output ${i} at ${rows} rows`))
    }
  })

  test("gives back one tensor, a list or a record, as the function does", async () => {
    const x = gpu.tensor([1, 2])
    const one = gpu.compile((x: Tensor) => x.add(1))(x)
    const list = gpu.compile((x: Tensor) => [x.add(1), x.mul(3)])(x)
    const record = gpu.compile((x: Tensor) => ({ sum: x.sum(), same: x }))(x)
    expect([...(await one.data())]).toEqual([2, 3])
    expect(await Promise.all(list.map(async (t) => [...(await t.data())]))).toEqual([
      [2, 3],
      [3, 6],
    ])
    expect(Object.keys(record)).toEqual(["sum", "same"])
    expect(await record.sum.item()).toBe(3)
    expect([...(await record.same.data())]).toEqual([1, 2])
    expect(gpu.compile(() => ({}))()).toEqual({})
  })

  test("leaves what an earlier call gave back intact", async () => {
    const double = gpu.compile((x: Tensor) => x.mul(2))
    const first = double(gpu.tensor([1, 2, 3]))
    const second = double(gpu.tensor([4, 5, 6]))
    expect([...(await first.data())]).toEqual([2, 4, 6])
    expect([...(await second.data())]).toEqual([8, 10, 12])
  })

  test("sees what was written to a tensor that it closes over", async () => {
    const w = gpu.tensor([1, 2])
    const scale = gpu.compile((x: Tensor) => x.mul(w))
    expect([...(await scale(gpu.tensor([1, 1])).data())]).toEqual([1, 2])
    gpu.write(w, new Float32Array([10, 20]))
    expect([...(await scale(gpu.tensor([1, 1])).data())]).toEqual([10, 20])
    gpu.clear(w)
    expect([...(await scale(gpu.tensor([1, 1])).data())]).toEqual([0, 0])
  })

  test("takes integers", async () => {
    const table = random([6, 3], 4)
    const pick = gpu.compile((ids: Tensor) => embedding(table, ids))
    const rows = await table.data()
    const picked = await pick(gpu.tensor(new Int32Array([5, 0, 5]))).data()
    expectSameBits(
      picked,
      [5, 0, 5].flatMap((id) => [...rows.subarray(3 * id, 3 * id + 3)]),
    )
  })

  test("keeps the memory that was made while it was traced", async () => {
    const total = gpu.zeros([512])
    const unused = random([512], 5)
    // The gradient of a parameter that the loss does not depend on is a fresh tensor of zeros.
    const step = gpu.compile((x: Tensor) => {
      gpu.accumulate(total, grad(x.sum(), [unused])[0]!)
      gpu.accumulate(total, gpu.full([512], 3))
      return {}
    })
    const x = gpu.tensor([1])
    step(x)
    for (let i = 0; i < 5; i++) {
      await collectGarbage()
      const others = Array.from({ length: 8 }, () => gpu.full([512], 100))
      step(x)
      for (const other of others) other.dispose()
    }
    expect(new Set(await total.data())).toEqual(new Set([18]))
  })

  test("may not be traced, called or read inside another", async () => {
    const known = gpu.compile((x: Tensor) => x.add(1))
    const x = gpu.tensor([1])
    known(x).dispose()
    expect(() => gpu.compile((y: Tensor) => known(y))(x)).toThrow(/compile/)
    expect(() => gpu.compile(() => known(x))()).toThrow(TensorError)
    await expect(
      gpu
        .compile(() => ({ x }))()
        .x.data(),
    ).resolves.toEqual(new Float32Array([1]))
    expect(() => gpu.compile((y: Tensor) => (gpu.realize([y.add(1)]), y))(x)).toThrow(/not known yet/)
    // A trace that failed leaves the device as it was.
    expect(await known(x).item()).toBe(2)
  })

  test("is not traced again, and a replay makes nothing but one submission", async () => {
    // A device of its own: garbage of other tests would give its buffers back in between.
    const own = await openDevice()
    const w = own.normal([8, 3], { seed: 31 })
    const optimizer = adamw([w], { lr: 1e-2 })
    let traces = 0
    const step = own.compile((x: Tensor, y: Tensor) => {
      traces++
      return optimizer.step(valueAndGrad((w) => x.matmul(w).tanh().crossEntropy(y), [w]))
    })
    const [x, y] = [own.normal([4, 8], { seed: 32 }), own.tensor(Int32Array.of(0, 2, 1, 0))]
    for (let i = 0; i < 2; i++) step(x, y).dispose()
    await own.sync()

    const { device } = own
    const groups = vi.spyOn(device, "createBindGroup")
    const made = [
      groups,
      vi.spyOn(device, "createShaderModule"),
      vi.spyOn(device, "createPipelineLayout"),
      vi.spyOn(device, "createComputePipeline"),
      vi.spyOn(device, "createBindGroupLayout"),
      vi.spyOn(device, "createBuffer"),
      vi.spyOn(device.queue, "writeBuffer"),
    ]
    const passes = [vi.spyOn(device, "createCommandEncoder"), vi.spyOn(device.queue, "submit")]
    try {
      for (let i = 0; i < 5; i++) step(x, y).dispose()
      expect(traces).toBe(1)
      for (const spy of made) expect(spy, spy.getMockName()).not.toHaveBeenCalled()
      for (const spy of passes) expect(spy, spy.getMockName()).toHaveBeenCalledTimes(5)

      // Inputs of another shape are another program.
      const [longer, more] = [own.normal([5, 8], { seed: 33 }), own.tensor(Int32Array.of(0, 2, 1, 0, 1))]
      step(longer, more).dispose()
      expect(traces).toBe(2)
      expect(groups).toHaveBeenCalled()
    } finally {
      vi.restoreAllMocks()
      own.destroy()
    }
  })

  test("refuses to run once memory that it reads is disposed of", () => {
    const w = gpu.tensor([1, 2])
    const scale = gpu.compile((x: Tensor) => x.mul(w))
    const x = gpu.tensor([1, 1])
    scale(x).dispose()
    w.dispose()
    expect(() => scale(x)).toThrow(TensorError)
  })
})

describe("accumulate", () => {
  const [x, g] = [random([9, 8], 30), random([9, 12], 31)]
  const start = randomArray(12 * 8, 32)

  test("merged into a product is the product added afterwards, but for rounding", async () => {
    const [merged, apart] = [gpu.tensor(start, [12, 8]), gpu.tensor(start, [12, 8])]
    const product = () => g.matmul(x, { transposeA: true })
    const mergedStep = gpu.compile(() => (gpu.accumulate(merged, product()), {}))
    const apartStep = gpu.compile(() => {
      const value = product()
      gpu.accumulate(apart, value)
      return { value }
    })
    expect(mergedStep.explain().launches).toBe(1)
    expect(apartStep.explain().launches).toBe(2)
    for (let i = 0; i < 3; i++) {
      mergedStep()
      apartStep().value.dispose()
    }
    const [a, b] = await gpu.readAll([merged, apart])
    expectClose(a!, b!, { abs: 2e-6, rel: 2e-6 })
    const [gData, xData] = [await g.data(), await x.data()]
    const expected = Float64Array.from(start, (value, i) => {
      let sum = 0
      for (let n = 0; n < 9; n++) sum += gData[n * 12 + Math.floor(i / 8)]! * xData[n * 8 + (i % 8)]!
      return value + 3 * sum
    })
    expectClose(a!, expected, { abs: 5e-6, rel: 5e-6 })
  })

  test("merged into the gradient of an embedding", async () => {
    const ids = gpu.tensor(new Int32Array([2, 0, 2, 1, 2, 6, 0, 0, 3]))
    const table = random([7, 12], 33)
    const total = gpu.tensor(randomArray(7 * 12, 34), [7, 12])
    const before = await total.data()
    const expected = await grad(embedding(table, ids).mul(g).sum(), [table])[0]!.data()
    const step = gpu.compile(() => (gpu.accumulate(total, grad(embedding(table, ids).mul(g).sum(), [table])[0]!), {}))
    step()
    expectClose(
      await total.data(),
      before.map((value, i) => value + expected[i]!),
      { abs: 1e-6, rel: 1e-6 },
    )
  })

  test("of a product with a residual is not merged", async () => {
    const [w, residual] = [random([12, 8], 35), random([9, 12], 36)]
    const total = gpu.zeros([9, 12])
    gpu.compile(() => (gpu.accumulate(total, linear(x, w, { residual })), {}))()
    expectSameBits(await total.data(), await linear(x, w, { residual }).data())
  })

  test("of a product of the target itself is not merged", async () => {
    const total = gpu.tensor([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16], [4, 4])
    gpu.compile(() => (gpu.accumulate(total, total.matmul(total)), {}))()
    const row = [...(await total.data())].slice(0, 4)
    expect(row).toEqual([1 + 90, 2 + 100, 3 + 110, 4 + 120])
  })

  test("adds nothing behind the last element", async () => {
    // A vec4 kernel leaves exp(0) = 1 behind a sum of five: the neighbours in an optimiser's buffer must not get it.
    const whole = gpu.zeros([8])
    gpu.accumulate(part(whole, 0, 5), gpu.tensor([1, 1, 1, 1, 1]).exp())
    expectClose(await whole.data(), [Math.E, Math.E, Math.E, Math.E, Math.E, 0, 0, 0])
  })

  test("refuses another shape or integers", () => {
    expect(() => gpu.accumulate(gpu.zeros([3]), gpu.zeros([4]))).toThrow(
      /accumulate: f32 \[4\] does not add to f32 \[3\]/,
    )
    expect(() => gpu.accumulate(gpu.zeros([3], "i32"), gpu.zeros([3], "i32"))).toThrow(ShapeError)
  })
})

describe("effects", () => {
  test("happen in the order in which they were written", async () => {
    const total = gpu.tensor([1, 2])
    const step = gpu.compile((x: Tensor) => {
      const before = total.mul(1)
      const early = total.mul(10)
      gpu.accumulate(total, x)
      const between = total.mul(1)
      gpu.accumulate(total, between)
      gpu.accumulate(total, x)
      const change = total.sub(before)
      return { early, between, change, after: total.add(0) }
    })
    const out = step(gpu.tensor([5, 7]))
    const [early, between, change, after] = await gpu.readAll([out.early, out.between, out.change, out.after])
    expect([...early!]).toEqual([10, 20])
    expect([...between!]).toEqual([6, 9])
    expect([...after!]).toEqual([17, 25])
    expect([...change!]).toEqual([16, 23])
  })

  test("on a part of a buffer and on the whole of it", async () => {
    const whole = gpu.zeros([128])
    const half = part(whole, 64, 64)
    const step = gpu.compile((x: Tensor) => {
      const before = whole.sum()
      gpu.accumulate(half, x)
      const middle = whole.sum()
      gpu.accumulate(whole, x.broadcastTo([2, 64]).reshape([128]))
      return [before, middle, half.sum()]
    })
    const sums = await gpu.readAll(step(gpu.full([64], 1)))
    expect(sums.map(([x]) => x)).toEqual([0, 64, 128])
  })

  test("run directly keep the values of tensors that they read", async () => {
    const total = gpu.tensor([1, 2])
    const twice = total.mul(2)
    gpu.accumulate(total, twice)
    expect([...(await total.data())]).toEqual([3, 6])
    expect([...(await twice.data())]).toEqual([2, 4])
  })
})

test("readAll reads tensors of several types and sizes at once", async () => {
  const [a, b, c] = [gpu.tensor([1.5]), gpu.tensor(new Int32Array([-1, 2, 3])), gpu.tensor(new Uint32Array([4e9]))]
  const lazy = a.add(1)
  expect(await gpu.readAll([a, b, c, lazy, a])).toEqual([
    new Float32Array([1.5]),
    new Int32Array([-1, 2, 3]),
    new Uint32Array([4e9]),
    new Float32Array([2.5]),
    new Float32Array([1.5]),
  ])
  expect(await gpu.readAll([])).toEqual([])
})

test("a tensor that was read is computed once, also one output of several", async () => {
  const x = random([3, 4], 40)
  const y = rmsNorm(x, gpu.full([4], 1), 1e-5)
  const before = await y.data()
  gpu.write(x, randomArray(12, 41))
  expectSameBits(await y.data(), before)
  const reshaped = y.add(1).reshape([4, 3])
  const values = await reshaped.data()
  expectClose(
    await reshaped.transpose().mul(2).reshape([12]).data(),
    [0, 1, 2].flatMap((j) => [0, 1, 2, 3].map((i) => 2 * values[3 * i + j]!)),
  )
})

describe("inputs and outputs", () => {
  test("a large input is read where it lies, and a large result where it is made: no copy takes memory", async () => {
    const before = gpu.memory().inUse
    const size = 2 ** 16
    const x = gpu.tensor(new Float32Array(size).fill(2))
    const double = gpu.compile((input: Tensor) => input.mul(2).add(1))
    const [first, second] = [double(x), double(x)]
    expect((gpu.memory().byOwner["workspace"] ?? 0) + gpu.memory().inUse - before).toBeGreaterThanOrEqual(3 * size * 4)
    expect(double.explain(x).workspaceBytes).toBe(0)
    expect([(await first.data())[7], (await second.data())[9]]).toEqual([5, 5])
    for (const tensor of [x, first, second]) tensor.dispose()
  })

  test("small ones may come from a new place every time: no bind group is made for it, and the values are right", async () => {
    const w = gpu.tensor([1, 10, 100])
    const run = gpu.compile((input: Tensor, factor: Tensor) => {
      const product = input.mul(w).mul(factor)
      return [product.sum(), product, input]
    })
    const batches = Array.from({ length: 40 }, (_, i) => gpu.tensor([i, i + 1, i + 2]))
    const factor = gpu.tensor([2])
    for (let i = 0; i < 2; i++) run(batches[0]!, factor)
    const groups = vi.spyOn(gpu.device, "createBindGroup")
    try {
      const results = batches.slice(2).map((batch) => run(batch, factor) as readonly Tensor[])
      expect(groups.mock.calls.length).toBeLessThan(10)
      const arrays = await gpu.readAll(results.flat())
      results.forEach((_, k) => {
        const [i, [sum, product, input]] = [k + 2, arrays.slice(3 * k, 3 * k + 3)]
        const expected = [2 * i, 20 * (i + 1), 200 * (i + 2)]
        expect([...input!]).toEqual([i, i + 1, i + 2])
        expect([...product!]).toEqual(expected)
        expect(sum![0]).toBe(expected.reduce((a, b) => a + b))
      })
    } finally {
      vi.restoreAllMocks()
    }
  })

  test("results that one value gives twice, and inputs that are given back, are apart", async () => {
    const both = gpu.compile((input: Tensor) => {
      const sum = input.add(1)
      return [sum, sum, input, sum.reshape([2, 2])]
    })
    const x = gpu.tensor([1, 2, 3, 4])
    const results = both(x) as readonly Tensor[]
    gpu.write(results[0]!, new Float32Array(4))
    gpu.write(results[2]!, new Float32Array(4))
    const [zeros, sum, , shaped] = await gpu.readAll(results)
    expect([[...zeros!], [...sum!], [...shaped!], [...(await x.data())]]).toEqual([
      [0, 0, 0, 0],
      [2, 3, 4, 5],
      [2, 3, 4, 5],
      [1, 2, 3, 4],
    ])
  })

  test("an input that the function overwrites stays the caller's, also where it lies in the same memory", async () => {
    const weight = gpu.tensor([1, 2, 3])
    const step = gpu.compile((input: Tensor) => {
      gpu.accumulate(weight, input.mul(10))
      return input.add(weight)
    })
    expect([...(await step(weight).data())]).toEqual([12, 24, 36])
    expect([...(await weight.data())]).toEqual([11, 22, 33])
    expect([...(await step(gpu.tensor([1, 1, 1])).data())]).toEqual([22, 33, 44])
  })
})
