import { describe, expect, test } from "vitest"
import { grad, type Range, type Tensor } from "../../src/index.ts"
import { testDevice } from "../device.ts"
import { expectDifferentiable, param } from "../gradient.ts"
import { at, dense, expectClose, fold, map, permute, randomNumbers, sizeOf, unravel, type Dense } from "../reference.ts"

const gpu = await testDevice()

/** What a random program is made of: each operation on tensors, and on arrays in float64. */
interface Operation {
  readonly arity: 1 | 2
  readonly tensor: (a: Tensor, b: Tensor, choice: number) => Tensor
  readonly reference: (a: Dense, b: Dense, choice: number) => Dense
}

const pick = <A>(items: readonly A[], choice: number): A => items[Math.floor(choice * items.length)]!
const axisOf = (shape: readonly number[], choice: number) => Math.floor(choice * shape.length)

/** Another shape of the same size. */
const reshaped = (shape: readonly number[], choice: number): readonly number[] => {
  const size = sizeOf(shape)
  const rows = pick(
    [1, 2, 3, 4, 6, 12].filter((dim) => size % dim === 0),
    choice,
  )
  return choice < 0.5 ? [rows, size / rows] : [size / rows, 1, rows]
}
const rotated = (shape: readonly number[], choice: number): readonly number[] => {
  const by = 1 + axisOf(shape, choice)
  return shape.map((_, axis) => (axis + by) % shape.length)
}
const widened = (shape: readonly number[], choice: number): readonly number[] =>
  choice < 0.5 ? [2, ...shape] : shape.map((dim) => (dim === 1 ? 4 : dim))

/** Indices that some slice takes of each axis: a step of −1, 2 or 1 along one of them, all of the others. */
const taken = (shape: readonly number[], choice: number): readonly (readonly number[])[] => {
  const axis = axisOf(shape, choice)
  return shape.map((dim, i) => {
    const all = Array.from({ length: dim }, (_, k) => k)
    if (i !== axis || dim === 1) return all
    return choice < 0.4 ? all.toReversed() : choice < 0.7 ? all.filter((k) => k % 2 === 1) : all.slice(1)
  })
}
const ranges = (shape: readonly number[], choice: number): readonly Range[] =>
  shape.map((dim, i) => {
    if (i !== axisOf(shape, choice) || dim === 1) return null
    return choice < 0.4 ? [null, null, -1] : choice < 0.7 ? [1, null, 2] : [1]
  })
const gather = (a: Dense, indices: readonly (readonly number[])[]): Dense => {
  const shape = indices.map(({ length }) => length)
  const element = (_: unknown, flat: number) =>
    at(
      a,
      unravel(shape, flat).map((k, axis) => indices[axis]![k]!),
    )
  return { shape, data: Float64Array.from({ length: sizeOf(shape) }, element) }
}
const widths = (shape: readonly number[], choice: number): readonly (readonly [number, number])[] =>
  shape.map((_, i) => (i === axisOf(shape, choice) ? [1, choice < 0.5 ? 2 : 0] : [0, 0]))
const padded = (a: Dense, around: readonly (readonly [number, number])[], fill: number): Dense => {
  const shape = a.shape.map((dim, axis) => dim + around[axis]![0] + around[axis]![1])
  const element = (_: unknown, flat: number) => {
    const index = unravel(shape, flat).map((k, axis) => k - around[axis]![0])
    return index.every((k, axis) => k >= 0 && k < a.shape[axis]!) ? at(a, index) : fill
  }
  return { shape, data: Float64Array.from({ length: sizeOf(shape) }, element) }
}

const operations: readonly Operation[] = [
  { arity: 1, tensor: (a) => a.tanh(), reference: (a) => map(Math.tanh, a) },
  { arity: 1, tensor: (a) => a.neg().sigmoid(), reference: (a) => map((x) => 1 / (1 + Math.exp(x)), a) },
  { arity: 1, tensor: (a) => a.abs().mul(0.7), reference: (a) => map((x) => 0.7 * Math.abs(x), a) },
  { arity: 1, tensor: (a) => a.square().add(1).log(), reference: (a) => map((x) => Math.log(x * x + 1), a) },
  { arity: 2, tensor: (a, b) => a.add(b), reference: (a, b) => map((x, y) => x + y, a, b) },
  { arity: 2, tensor: (a, b) => a.sub(b.mul(a)), reference: (a, b) => map((x, y) => x - y * x, a, b) },
  { arity: 2, tensor: (a, b) => a.div(b.square().add(1)), reference: (a, b) => map((x, y) => x / (y * y + 1), a, b) },
  { arity: 2, tensor: (a, b) => a.maximum(b), reference: (a, b) => map(Math.max, a, b) },
  {
    // Without a step: where the operands are nearly equal, f32 and float64 may come down on different sides.
    arity: 2,
    tensor: (a, b) => a.greater(b).where(a.mul(2).sub(b), a),
    reference: (a, b) => map((x, y) => (x > y ? 2 * x - y : x), a, b),
  },
  {
    arity: 1,
    tensor: (a, _, choice) => a.reshape(reshaped(a.shape, choice)),
    reference: (a, _, choice) => ({ shape: reshaped(a.shape, choice), data: a.data }),
  },
  {
    arity: 1,
    tensor: (a, _, choice) => (a.shape.length > 0 ? a.transpose(rotated(a.shape, choice)) : a),
    reference: (a, _, choice) => (a.shape.length > 0 ? permute(a, rotated(a.shape, choice)) : a),
  },
  {
    arity: 1,
    tensor: (a, _, choice) => a.slice(...ranges(a.shape, choice)),
    reference: (a, _, choice) => gather(a, taken(a.shape, choice)),
  },
  {
    arity: 1,
    tensor: (a, _, choice) => a.pad(widths(a.shape, choice), 0.5),
    reference: (a, _, choice) => padded(a, widths(a.shape, choice), 0.5),
  },
  {
    arity: 1,
    tensor: (a, _, choice) => (a.size > 300 ? a : a.broadcastTo(widened(a.shape, choice))),
    reference: (a, _, choice) =>
      a.data.length > 300
        ? a
        : map((x) => x, a, dense(widened(a.shape, choice), new Float64Array(sizeOf(widened(a.shape, choice))))),
  },
  {
    arity: 1,
    tensor: (a, _, choice) => (a.shape.length > 0 ? a.mean(axisOf(a.shape, choice)) : a.mean()),
    reference: (a, _, choice) => {
      if (a.shape.length === 0) return a
      const axis = axisOf(a.shape, choice)
      return map(
        (x) => x / a.shape[axis]!,
        fold(a, axis, 0, (s, x) => s + x),
      )
    },
  },
  {
    arity: 1,
    tensor: (a, _, choice) => (a.shape.length > 0 ? a.max(axisOf(a.shape, choice)) : a.max()),
    reference: (a, _, choice) =>
      a.shape.length === 0 ? a : fold(a, axisOf(a.shape, choice), Number.NEGATIVE_INFINITY, Math.max),
  },
]

const broadcasts = (a: readonly number[], b: readonly number[]): boolean =>
  a.every((dim, i) => {
    const other = b[b.length - a.length + i]
    return other === undefined || other === dim || other === 1 || dim === 1
  })

interface Step {
  readonly operation: Operation
  readonly a: number
  readonly b: number
  readonly choice: number
}

/** A random program over inputs of these shapes: each step reads earlier values, so that some are shared. */
const randomProgram = (seed: number, shapes: readonly (readonly number[])[], length: number): readonly Step[] => {
  const next = randomNumbers(seed)
  const values: Dense[] = shapes.map((shape) => dense(shape, new Float64Array(sizeOf(shape)).fill(0.5)))
  const steps: Step[] = []
  while (steps.length < length) {
    const operation = pick(operations, next())
    const recent = (spread: number) => Math.max(0, values.length - 1 - Math.floor(next() * spread))
    const [a, b, choice] = [recent(2), recent(values.length), next()]
    if (operation.arity === 2 && !broadcasts(values[a]!.shape, values[b]!.shape)) continue
    const result = operation.reference(values[a]!, values[b]!, choice)
    if (result.data.length > 2000) continue
    values.push(result)
    steps.push({ operation, a, b, choice })
  }
  return steps
}

/** Runs the steps; the result joins the last value and two from the middle, so that some are read from outside too. */
const interpret = <Value>(
  inputs: readonly Value[],
  steps: readonly Step[],
  run: (operation: Operation, a: Value, b: Value, choice: number) => Value,
): readonly Value[] => {
  const values = [...inputs]
  for (const { operation, a, b, choice } of steps) values.push(run(operation, values[a]!, values[b]!, choice))
  return [values.at(-1)!, values.at(-3)!, values[inputs.length]!]
}

describe("fused kernels", () => {
  const count = Number(process.env["RLPT_FUZZ"] ?? 12)
  test.each(Array.from({ length: count }, (_, i) => i + 1))("random program %i, with gradients", async (seed) => {
    const next = randomNumbers(1000 + seed)
    const rank2 = [pick([1, 2, 3, 4], next()), pick([1, 4, 6, 8, 3], next())]
    const shapes = [rank2, [rank2[1]!], [pick([2, 3], next()), 1, rank2[1]!]]
    const steps = randomProgram(seed, shapes, 10)
    await expectDifferentiable(gpu, {
      params: shapes.map((shape, i) => param(shape, 10 * seed + i)),
      fn: (...inputs) => {
        const results = interpret(inputs, steps, ({ tensor }, a, b, choice) => tensor(a, b, choice))
        return results.map((result) => result.sum()).reduce((sum, x) => sum.add(x), results[0]!)
      },
      reference: (...inputs) => {
        const results = interpret(
          inputs.map((input, i) => dense(shapes[i]!, input)),
          steps,
          ({ reference }, a, b, choice) => reference(a, b, choice),
        )
        const total = results.reduce((sum, { data }) => sum + data.reduce((s, x) => s + x, 0), 0)
        return results[0]!.data.map((x) => x + total)
      },
      value: { abs: 1e-4, rel: 2e-5 },
      grad: { abs: 2e-3, rel: 2e-4 },
    })
  })

  const launches = (fn: (...inputs: Tensor[]) => Tensor | readonly Tensor[], ...inputs: Tensor[]) =>
    gpu.compile(fn).explain(...inputs).launches

  test("a chain is one launch, whatever is shared or repeated in it", () => {
    const [x, row, column] = [gpu.zeros([6, 8]), gpu.zeros([8]), gpu.zeros([6, 1])]
    expect(launches((x) => x.mul(2).exp().add(1).log(), x)).toBe(1)
    expect(
      launches(
        (x, row, column) => {
          const y = x.sub(row).exp()
          return y.mul(y).div(column.add(1))
        },
        x,
        row,
        column,
      ),
    ).toBe(2)
    expect(
      launches((x) => {
        const y = x.tanh()
        return y.mul(y).add(y)
      }, x),
    ).toBe(1)
    expect(launches((x) => x.mul(2).reshape([48]).add(1).reshape([4, 12]), x)).toBe(1)
  })

  test("a reduction takes in what it reduces", () => {
    const x = gpu.zeros([6, 8])
    expect(launches((x) => x.mul(x).sum(1), x)).toBe(1)
    expect(launches((x) => x.exp().mul(3).sum(), x)).toBe(1)
    expect(launches((x) => x.exp().sum(0), x)).toBe(1)
  })

  test("a value with users in two kernels is computed once", () => {
    const x = gpu.zeros([6, 8])
    expect(
      launches((x) => {
        const y = x.exp()
        return [y.sum(0), y.sum(1)]
      }, x),
    ).toBe(3)
    expect(
      launches((x) => {
        const y = x.exp()
        return [y, y.add(1)]
      }, x),
    ).toBe(2)
  })

  test("a constant is read from memory where it is padded, and written into the text elsewhere", async () => {
    const one = gpu.constant(1).reshape([1])
    const [apart, both] = await gpu.readAll([one.pad([[0, 2]]), one.pad([[1, 0]]).add(one)])
    expect([...apart!, ...both!]).toEqual([1, 0, 0, 1, 2])
    const x = gpu.tensor([3, 5])
    const gradients = [x.slice(0), x.slice(0).mul(2).neg(), x.slice([1]).mean(), x.softmax().slice(1)]
    const read = await gpu.readAll(gradients.map((value) => grad(value, [x])[0]!))
    const p = 1 / (1 + Math.exp(-2))
    expectClose(
      read.flatMap((each) => [...each]),
      [1, 0, -2, 0, 0, 1, -p * (1 - p), p * (1 - p)],
      { abs: 1e-6, rel: 1e-6 },
    )
    const compiled = gpu.compile((x) => grad(x.slice(0).square(), [x])[0]!)
    expect([...(await compiled(x).data())]).toEqual([6, 0])
  })

  test("more inputs than a launch may bind are spread over several", async () => {
    const inputs = Array.from({ length: 20 }, (_, i) => gpu.full([5], i + 1))
    const product = (tensors: readonly Tensor[]) =>
      tensors.reduce((sum, t, i) => (i % 2 === 0 ? sum.add(t) : sum.sub(t.mul(2))))
    const expected = inputs.reduce((sum, _, i) => (i === 0 ? 1 : i % 2 === 0 ? sum + i + 1 : sum - 2 * (i + 1)), 0)
    expect([...(await product(inputs).data())]).toEqual(Array.from({ length: 5 }, () => expected))
  })
})
