import { expect, test } from "vitest"
import type { Tensor } from "../../src/index.ts"
import { Storage } from "../../src/device/storage.ts"
import { testDevice } from "../device.ts"
import { expectClose, randomArray, randomNumbers } from "../reference.ts"

const gpu = await testDevice()

/**
 * Random programs over three tensors that are updated in place: the whole of a buffer, [8, 16], and its two halves,
 * [4, 16]. However the library orders, fuses and merges, every value must be what it was where it was written.
 */
const states = ["whole", "low", "high"] as const

interface Step {
  /** Reads a state or an earlier value, or adds an earlier value to a state. */
  readonly kind: "read" | "compute" | "product" | "update"
  readonly state: (typeof states)[number]
  readonly a: number
  readonly b: number
}

const randomSteps = (seed: number, count: number): readonly Step[] => {
  const next = randomNumbers(seed)
  return Array.from({ length: count }, (_, i) => ({
    kind: i === 0 ? "read" : (["read", "compute", "product", "update", "update"] as const)[Math.floor(next() * 5)]!,
    state: states[Math.floor(next() * 3)]!,
    a: next(),
    b: next(),
  }))
}

/** Runs the steps one after another on what `ops` calls values: [4, 16]. */
const interpret = <Value>(
  steps: readonly Step[],
  ops: {
    readonly read: (state: Step["state"]) => Value
    readonly compute: (a: Value, b: Value) => Value
    readonly product: (a: Value) => Value
    readonly update: (state: Step["state"], value: Value) => void
  },
): readonly Value[] => {
  const values: Value[] = []
  for (const { kind, state, a, b } of steps) {
    const value = (choice: number) => values.at(-1 - Math.floor(choice * Math.min(3, values.length)))!
    if (kind === "read") values.push(ops.read(state))
    else if (kind === "update") ops.update(state, value(a))
    else values.push(ops[kind](value(a), value(b)))
  }
  return values
}

const matrix = randomArray(256, 1, -0.2, 0.2)

const onTensors = (steps: readonly Step[], whole: Tensor) => {
  const { buffer, offset } = whole.value.node.memory[0]!
  const half = (start: number) => gpu.wrap(new Storage(buffer, offset + start, 256, undefined, whole), [4, 16], "f32")
  const tensors = { whole, low: half(0), high: half(256) }
  const weight = gpu.tensor(matrix, [16, 16])
  return interpret<Tensor>(steps, {
    read: (state) => (state === "whole" ? whole.reshape([2, 4, 16]).sum(0) : tensors[state]).mul(0.5),
    compute: (a, b) => a.sub(b.mul(0.25)).tanh(),
    // An accumulation can merge with this one.
    product: (a) => a.matmul(weight),
    update: (state, value) =>
      gpu.accumulate(tensors[state], state === "whole" ? value.broadcastTo([2, 4, 16]).reshape([8, 16]) : value),
  })
}

const onArrays = (steps: readonly Step[], memory: Float64Array) =>
  interpret<Float64Array>(steps, {
    read: (state) =>
      Float64Array.from({ length: 64 }, (_, i) => {
        const [low, high] = [memory[i]!, memory[64 + i]!]
        return 0.5 * { whole: low + high, low, high }[state]
      }),
    compute: (a, b) => a.map((x, i) => Math.tanh(x - 0.25 * b[i]!)),
    product: (a) =>
      a.map((_, i) => {
        const [row, column] = [Math.floor(i / 16), i % 16]
        let sum = 0
        for (let k = 0; k < 16; k++) sum += a[16 * row + k]! * matrix[16 * k + column]!
        return sum
      }),
    update: (state, value) => {
      for (let i = 0; i < 64; i++) {
        if (state !== "high") memory[i]! += value[i]!
        if (state !== "low") memory[64 + i]! += value[i]!
      }
    },
  })

const count = Number(process.env["RLPT_FUZZ"] ?? 12)
test.each(Array.from({ length: count }, (_, i) => i + 1))("random program %i of updates in place", async (seed) => {
  const steps = randomSteps(seed, 14)
  const start = randomArray(128, seed)
  const memory = Float64Array.from(start)
  // Some values are given back; the rest may be computed anywhere, or nowhere.
  const some = <Value>(values: readonly Value[]) => values.filter((_, i) => i % 4 === 3 || i === values.length - 1)
  const expected = some(onArrays(steps, memory))
  const whole = gpu.tensor(start, [8, 16])
  const run = gpu.compile(() => some(onTensors(steps, whole)))
  for (let call = 0; call < 2; call++) {
    gpu.write(whole, start)
    const values = await gpu.readAll([...run(), whole])
    expect(values).toHaveLength(expected.length + 1)
    values.forEach((value, i) => expectClose(value, expected[i] ?? memory, { abs: 1e-4, rel: 1e-4 }, `value ${i}`))
  }
})
