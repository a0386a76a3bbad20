import { describe, expect, test } from "vitest"
import {
  adamw,
  avgPool2d,
  concat,
  conv1d,
  conv2d,
  linear,
  maxPool2d,
  OutOfMemoryError,
  random,
  sgd,
  stack,
  TensorError,
  type Outputs,
  type Tensor,
} from "../../src/index.ts"
import { testDevice } from "../device.ts"

const gpu = await testDevice()
const zeros = (...shape: number[]) => gpu.zeros(shape)
const key = random.key(gpu, 1)
/** What only callers without types can pass. */
const untyped = (value: unknown) => value as never
const image = zeros(1, 2, 4, 4)

const refusals: Readonly<Record<string, readonly (readonly [call: () => unknown, message: RegExp])[]>> = {
  "making tensors": [
    [() => zeros(-1), /zeros: a shape is a list of whole numbers from 0 on, not \[-1\]/],
    [() => zeros(1.5), /zeros: a shape .* not \[1.5\]/],
    [() => zeros(Number.NaN), /zeros: a shape/],
    [() => gpu.normal([-1], { seed: 1 }), /normal: a shape/],
    [() => gpu.uniform([0.5], { seed: 1 }), /uniform: a shape/],
    [() => gpu.tensor([1, 2], [-1, -2]), /tensor: a shape/],
    [() => gpu.arange(-3), /arange: a shape/],
    [() => gpu.linspace(0, 1, 2.5), /linspace: a shape/],
    [() => gpu.full([2], 1.5, "i32"), /full: 1.5 is no number of i32/],
    [() => gpu.full([2], -1, "u32"), /full: -1 is no number of u32/],
    [() => gpu.full([2], 2 ** 31, "i32"), /full: 2147483648 is no number of i32: it has the whole ones from/],
    [() => gpu.constant(2 ** 31, "i32"), /constant: 2147483648 is no number of i32/],
    [() => gpu.constant(1, untyped("i64")), /constant: takes f32, i32 or u32, not i64/],
    [() => gpu.empty([-2]), /empty: a shape .* not \[-2\]/],
    [() => gpu.empty([1.5], "f16"), /empty: a shape .* not \[1.5\]/],
    [() => gpu.empty([2], untyped("float16")), /empty: there is no dtype float16/],
    [() => gpu.zeros([3], untyped("float32")), /zeros: there is no dtype float32/],
    [() => gpu.zeros([3], untyped("int7:32")), /there is no "int7:32"/],
    [() => gpu.zeros([3], "int8:32"), /zeros: the groups of int8:32 do not divide the rows of \[3\]/],
    [() => gpu.zeros([32, 3], "int8:32"), /zeros: the groups of int8:32 do not divide the rows of \[32, 3\]/],
    [() => gpu.arange(3, { step: 0.5, dtype: "i32" }), /arange: 0.5 is no number of i32/],
    [() => gpu.arange(3, { start: -1, dtype: "u32" }), /arange: -1 is no number of u32/],
    [() => gpu.arange(3, { start: 2 ** 31 - 2, dtype: "i32" }), /arange: 2147483648 is no number of i32/],
    [() => gpu.arange(3, { dtype: untyped("f16") }), /arange: takes f32, i32 or u32, not f16/],
    [() => gpu.quantized(new Uint32Array(9), [-32], "int8:32"), /quantized: a shape .* not \[-32\]/],
    [() => gpu.uniform([3], { seed: 0.5 }), /uniform: a seed is a whole number below 2⁵³, not 0.5/],
    [() => gpu.tensor(untyped([true])), /tensor: takes numbers, .* not the boolean true: cast numbers to "bool"/],
    [() => gpu.tensor(untyped("abc")), /not the string abc/],
    [() => gpu.tensor(untyped(undefined)), /not the undefined undefined/],
    [() => gpu.tensor(untyped([1n])), /not the bigint 1/],
  ],
  "random numbers": [
    [() => random.key(gpu, 0.5), /random.key: a seed/],
    [() => random.uniform(key, [-1]), /random.uniform: a shape/],
    [() => random.integers(key, [2], 3, 3), /random.integers: there is no whole number from 3 to below 3/],
    [() => random.integers(key, [2], 0, 2.5), /random.integers/],
    [() => random.integers(key, [2], 0, 2 ** 31 + 1), /random.integers: 2147483648 is no number of i32/],
    [() => random.integers(key, [2], -3e9, 0), /random.integers: -3000000000 is no number of i32/],
    [() => random.fold(key, 1.5), /random.fold: 1.5 is no number of u32/],
    [() => random.fold(key, -1), /random.fold: -1 is no number of u32/],
    [() => random.fold(key, 2 ** 32), /random.fold: 4294967296 is no number of u32/],
    [() => random.fold(zeros(2), 1), /random.fold: a key is u32 \[2\], not f32 \[2\]/],
    [() => random.split(key, 1.5), /random.split: a shape .* not \[1.5\]/],
  ],
  "lists of tensors": [
    [() => concat(untyped(zeros(1))), /concat: takes a list of tensors: concat\(\[a, b\], axis\)/],
    [() => stack([]), /stack: needs at least one tensor/],
    [() => stack([zeros(2), zeros(3)]), /stack: f32 \[2\] and f32 \[3\] are not alike/],
    [() => stack([zeros(2), gpu.zeros([2], "i32")]), /stack: f32 \[2\] and i32 \[2\] are not alike/],
    [() => stack([zeros(2)], 2), /stack: .*axis/],
    [() => linear(zeros(2, 3), zeros(4, 3), { bias: zeros(3) }), /linear: bias \[3\] must be \[4\]/],
  ],
  "parts and repetitions": [
    [() => zeros(3).slice([0.5, 2]), /slice: 0.5 is not a place between elements/],
    [() => gpu.zeros([3], "i32").pad([[1, 1]], 1.5), /pad: 1.5 is no number of i32/],
    [() => gpu.zeros([3], "bool").pad([[1, 1]], -1), /pad: -1 is no number of u32/],
    [() => zeros(3).split(1.5), /split: parts have a whole number of elements above 0, not 1.5/],
    [() => zeros(3).split([1.5, 1.5]), /split: sizes \[1.5, 1.5\] do not add up to 3/],
    [() => zeros(3).repeat([-1]), /repeat: nothing can be repeated -1 times/],
    [() => zeros(3).repeatInterleave(1.5, 0), /repeatInterleave: nothing can be repeated 1.5 times/],
  ],
  "operands that do not mix": [
    [() => gpu.zeros([1], "i32").less(1.5), /less: 1.5 is no number of i32/],
    [() => gpu.ones([1], "bool").where(gpu.zeros([1], "u32"), -1), /where: -1 is no number of u32/],
    [() => gpu.zeros([1], "i32").fullLike(0.5), /fullLike: 0.5 is no number of i32/],
    [() => zeros(1).cast(untyped("i64")), /cast: there is no dtype i64/],
    [() => zeros(1).cast(untyped("int7:32")), /there is no "int7:32"/],
    [() => gpu.ones([1], "bool").mul(zeros(1)), /mul: bool and f32 do not mix: cast one of them/],
    [
      () => zeros(2, 3).crossEntropy(gpu.zeros([2], "i32"), { reduction: untyped("avg") }),
      /mean, sum or none, not avg/,
    ],
  ],
  "convolutions and pools": [
    [
      () => conv2d(image, zeros(2, 2, 3, 3), { stride: 0 }),
      /conv2d: stride is 0 × 0: it must be whole, and at least 1/,
    ],
    [() => conv2d(image, zeros(2, 2, 3, 3), { padding: -1 }), /conv2d: padding is -1 × -1: .* at least 0/],
    [() => conv2d(image, zeros(2, 2, 3, 3), { bias: zeros(3) }), /conv2d: the bias must be \[2\], not \[3\]/],
    [() => conv2d(image, zeros(2, 2, 9, 3)), /conv2d: a window of 9 × 3 is larger than \[1, 2, 4, 4\]/],
    [() => conv1d(zeros(1, 3, 4), zeros(2, 2, 3)), /conv1d: x \[1, 3, 4\] and weight \[2, 2, 3\] must be \[B, C, L\]/],
    [() => maxPool2d(zeros(2, 4, 4), 2), /maxPool2d: needs \[B, C, H, W\], got \[2, 4, 4\]/],
    [() => avgPool2d(image, 5), /avgPool2d: a window of 5 × 5 is larger/],
  ],
  optimisers: [
    [() => adamw([]), /adamw: there is no parameter to update/],
    [() => ((w: Tensor) => sgd([w, w]))(zeros(2)), /sgd: a parameter is given twice/],
    [() => adamw([zeros(1)], { lr: -1 }), /adamw: the learning rate is a number from 0 on, not -1/],
    [() => sgd([zeros(1)]).accumulate([]), /sgd: 1 parameters need as many gradients, not 0/],
  ],
  "compiled functions": [
    [() => gpu.compile((x: Tensor) => x)(untyped(5)), /argument 0 is no tensor: a compiled function takes tensors/],
    ...[5, undefined, null, Promise.resolve(zeros(1)), { loss: zeros(1), step: 3 }].map(
      (result) =>
        [
          () => gpu.compile(() => result as unknown as Outputs)(),
          /returns a tensor, a list or a record of tensors/,
        ] as const,
    ),
  ],
}

describe.each(Object.entries(refusals))("%s", (_, cases) => {
  test.each(cases.map(([call, message]) => ({ call, message })))("$message", ({ call, message }) => {
    expect(call).toThrow(TensorError)
    expect(call).toThrow(message)
  })
})

test("ones and full of every dtype whose elements are numbers", async () => {
  const half = await gpu.readAll([gpu.full([3], 1.5, "f16"), gpu.full([3], 1.5, "bf16"), gpu.ones([2], "f16")])
  expect(half.map((array) => [...array])).toEqual([
    [1.5, 1.5, 1.5],
    [1.5, 1.5, 1.5],
    [1, 1],
  ])
  const whole = [gpu.full([2], 7, "bool"), gpu.ones([2], "bool"), gpu.full([2], -7, "i32"), gpu.full([2], 7, "u32")]
  expect(whole.map(({ dtype }) => dtype)).toEqual(["bool", "bool", "i32", "u32"])
  expect((await gpu.readAll(whole)).map((array) => [...array])).toEqual([
    [1, 1],
    [1, 1],
    [-7, -7],
    [7, 7],
  ])
})

test("what is as large as no memory is refused for want of it", () => {
  expect(() => gpu.zeros([2 ** 45])).toThrow(OutOfMemoryError)
  expect(() => gpu.empty([2 ** 20, 2 ** 25])).toThrow(OutOfMemoryError)
})

test("numbers at equal distances, also of one alone", async () => {
  const lists = [gpu.linspace(2, 5, 1), gpu.linspace(2, 5, 0), gpu.linspace(2, 5, 4), gpu.arange(3, { step: -0.5 })]
  expect((await gpu.readAll(lists)).map((array) => [...array].map((x) => x + 0))).toEqual([
    [2],
    [],
    [2, 3, 4, 5],
    [0, -0.5, -1],
  ])
})

test("a bool is padded with 0 or 1", async () => {
  expect([
    ...(await gpu
      .zeros([1], "bool")
      .pad([[1, 2]], 5)
      .data()),
  ]).toEqual([1, 0, 1, 1])
})

test("zeros are zero in memory that was used before, and a bool that is written is 0 or 1", async () => {
  gpu.full([1000], 7).dispose()
  const [zero, bool] = [gpu.zeros([1000]), gpu.zeros([3], "bool")]
  gpu.write(bool, new Uint32Array([5, 0, 1]))
  const [a, b] = await gpu.readAll([zero, bool])
  expect(a!.every((x) => x === 0)).toBe(true)
  expect([...b!]).toEqual([1, 0, 1])
})
