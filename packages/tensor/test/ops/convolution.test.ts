import { describe, expect, test } from "vitest"
import { avgPool2d, conv1d, conv2d, grad, maxPool2d, ShapeError, type Pair, type Tensor } from "../../src/index.ts"
import { testDevice } from "../device.ts"
import { param } from "../gradient.ts"
import { expectClose } from "../reference.ts"
import { expectAll, type Case } from "./many.ts"

const gpu = await testDevice()

interface Setting {
  readonly x: readonly [batch: number, channels: number, height: number, width: number]
  readonly weight: readonly [out: number, perGroup: number, height: number, width: number]
  readonly stride?: readonly [number, number]
  readonly padding?: readonly [number, number]
  readonly dilation?: readonly [number, number]
  readonly groups?: number
}

/** Cross-correlation by its definition. */
const reference =
  ({
    x: [B, C, H, W],
    weight: [O, I, KH, KW],
    stride = [1, 1],
    padding = [0, 0],
    dilation = [1, 1],
    groups = 1,
  }: Setting) =>
  (x: Float64Array, weight: Float64Array, bias: Float64Array) => {
    const places = (length: number, size: number, d: 0 | 1) =>
      Math.floor((length + 2 * padding[d] - dilation[d] * (size - 1) - 1) / stride[d]) + 1
    const [OH, OW] = [places(H, KH, 0), places(W, KW, 1)]
    const out: number[] = []
    for (let b = 0; b < B; b++)
      for (let o = 0; o < O; o++)
        for (let oh = 0; oh < OH; oh++)
          for (let ow = 0; ow < OW; ow++) {
            let total = bias[o]!
            const group = Math.floor(o / (O / groups))
            for (let i = 0; i < I; i++)
              for (let kh = 0; kh < KH; kh++)
                for (let kw = 0; kw < KW; kw++) {
                  const h = oh * stride[0] + kh * dilation[0] - padding[0]
                  const w = ow * stride[1] + kw * dilation[1] - padding[1]
                  if (h < 0 || h >= H || w < 0 || w >= W) continue
                  total += x[((b * C + group * I + i) * H + h) * W + w]! * weight[((o * I + i) * KH + kh) * KW + kw]!
                }
            out.push(total)
          }
    return out
  }

const settings: Readonly<Record<string, Setting>> = {
  plain: { x: [2, 3, 5, 4], weight: [4, 3, 3, 2] },
  "stride and padding": { x: [1, 2, 6, 7], weight: [3, 2, 3, 3], stride: [2, 3], padding: [1, 2] },
  dilation: { x: [2, 1, 7, 6], weight: [2, 1, 3, 2], dilation: [2, 3], padding: [1, 0] },
  groups: { x: [2, 4, 4, 4], weight: [6, 2, 2, 2], groups: 2, padding: [1, 1] },
  "one group a channel": { x: [1, 3, 5, 5], weight: [3, 1, 3, 3], groups: 3, stride: [2, 2], padding: [1, 1] },
  "a window of one": { x: [2, 3, 2, 2], weight: [4, 3, 1, 1] },
}

describe("conv2d", () => {
  test("against its definition, with gradients of image, weight and bias", async () => {
    const cases = Object.entries(settings).map(([name, setting], i): [string, Case] => {
      const { x, weight, ...options } = setting
      return [
        name,
        {
          params: [param(x, i), param(weight, i + 10), param([weight[0]], i + 20)],
          fn: (image, w, bias) => conv2d(image, w, { ...options, bias }),
          reference: reference(setting),
          grad: { abs: 2e-4, rel: 2e-4 },
        },
      ]
    })
    await expectAll(gpu, Object.fromEntries(cases))
  })

  test('padding "same" keeps the size, the odd zero at the end, as in PyTorch', async () => {
    const odd: Setting = { x: [2, 2, 5, 4], weight: [3, 2, 3, 5], padding: [2, 2], dilation: [2, 1] }
    const even: Setting = { x: [1, 2, 5, 4], weight: [3, 2, 2, 4], padding: [0, 1] }
    const [, , H, W] = even.x
    /** With one row and one column of zeros more at the end: dilation 1, so 1 and 3 zeros are missing. */
    const longer = (x: Float64Array) =>
      [0, 1].flatMap((c) =>
        Array.from({ length: H + 1 }, (_, h) =>
          Array.from({ length: W + 1 }, (__, w) => (h < H && w < W ? x[(c * H + h) * W + w]! : 0)),
        ).flat(),
      )
    const keeping = (x: Tensor, weight: Tensor, bias: Tensor, dilation: readonly [number, number]) =>
      conv2d(x, weight, { bias, padding: "same", dilation })
    await expectAll(gpu, {
      odd: {
        params: [param(odd.x, 1), param(odd.weight, 2), param([3], 3)],
        fn: (x, w, bias) => keeping(x, w, bias, [2, 1]),
        reference: reference(odd),
      },
      even: {
        params: [param(even.x, 1), param(even.weight, 2), param([3], 3)],
        fn: (x, w, bias) => keeping(x, w, bias, [1, 1]),
        reference: (x, w, bias) =>
          reference({ ...even, x: [1, 2, H + 1, W + 1] })(Float64Array.from(longer(x)), w, bias),
      },
      conv1d: {
        params: [param([1, 2, 6], 1), param([3, 2, 4], 2), param([3], 3)],
        fn: (x, w, bias) => conv1d(x, w, { bias, padding: "same" }),
        reference: (x, w, bias) =>
          reference({ x: [1, 2, 1, 7], weight: [3, 2, 1, 4], padding: [0, 1] })(
            Float64Array.from([...x.slice(0, 6), 0, ...x.slice(6), 0]),
            w,
            bias,
          ),
      },
    })
    expect(() => conv2d(gpu.zeros([1, 1, 4, 4]), gpu.zeros([1, 1, 3, 3]), { padding: "same", stride: 2 })).toThrow(
      /conv2d: padding "same" needs a stride of 1, not 2 × 2/,
    )
  })

  test("is linear: its second gradient is a convolution again", async () => {
    const x = gpu.normal([1, 2, 4, 4], { seed: 1 })
    const w = gpu.normal([2, 2, 2, 2], { seed: 2 })
    const [first] = grad(conv2d(x, w).square().sum(), [x])
    const [second] = grad(first!.mul(x).sum(), [x])
    // ½ xᵀHx has the gradient Hx, and Σ (Hx)·x has twice as much.
    expectClose(
      await second!.data(),
      (await first!.data()).map((v) => 2 * v),
      { abs: 1e-4, rel: 1e-4 },
    )
  })

  test.each([
    [
      () => conv2d(gpu.zeros([1, 3, 4, 4]), gpu.zeros([2, 2, 3, 3])),
      /conv2d: x \[1, 3, 4, 4\] and weight \[2, 2, 3, 3\]/,
    ],
    [() => conv2d(gpu.zeros([1, 1, 2, 2]), gpu.zeros([1, 1, 3, 3])), /a window of 3 × 3 is larger than \[1, 1, 2, 2\]/],
    [() => conv1d(gpu.zeros([1, 3]), gpu.zeros([2, 3, 3])), /conv1d: x \[1, 3\]/],
    [() => conv1d(gpu.zeros([1, 3, 2]), gpu.zeros([2, 3, 3])), /conv1d: a window of 3 is larger than \[1, 3, 2\]/],
    [() => conv1d(gpu.zeros([1, 3, 4]), gpu.zeros([2, 3, 3]), { stride: 0 }), /conv1d: stride is 0: it must be whole/],
    [
      () => conv2d(gpu.zeros([1, 1, 4, 4]), gpu.zeros([1, 1, 3, 3]), { stride: [1] as unknown as Pair }),
      /conv2d: stride is \[1\]: it must be a number, or \[height, width\]/,
    ],
    [() => conv2d(gpu.zeros([1, 1, 4, 4], "i32"), gpu.zeros([1, 1, 3, 3])), /conv2d: x is i32: cast it to f32 first/],
    [() => conv1d(gpu.zeros([1, 1, 4]), gpu.zeros([1, 1, 3], "i32")), /conv1d: the weight is i32: cast it/],
    [
      () => conv1d(gpu.zeros([1, 1, 4]), gpu.zeros([1, 1, 3]), { bias: gpu.zeros([1], "i32") }),
      /conv1d: the bias is i32: cast it/,
    ],
    [() => maxPool2d(gpu.zeros([1, 1, 4, 4], "i32"), 2), /maxPool2d: x is i32: cast it/],
    [
      () => avgPool2d(gpu.zeros([1, 1, 4, 4]), 2, { padding: 2 }),
      /avgPool2d: padding is 2 × 2: .* to half of the window/,
    ],
  ])("names what does not fit", (call, message) => {
    expect(call).toThrow(ShapeError)
    expect(call).toThrow(message)
  })
})

describe("conv1d and pools", () => {
  test("against their definitions, with gradients", async () => {
    const [B, C, H, W] = [2, 2, 4, 6] as const
    const pooled = (x: Float64Array, fold: (seen: number[]) => number) => {
      const out: number[] = []
      for (let bc = 0; bc < B * C; bc++)
        for (let oh = 0; oh < H / 2; oh++)
          for (let ow = 0; ow < W / 3; ow++)
            out.push(fold([0, 1].flatMap((h) => [0, 1, 2].map((w) => x[(bc * H + 2 * oh + h) * W + 3 * ow + w]!))))
      return out
    }
    await expectAll(gpu, {
      conv1d: {
        params: [param([2, 3, 8], 1), param([4, 3, 3], 2), param([4], 3)],
        fn: (x, w, bias) => conv1d(x, w, { bias, stride: 2, padding: 1, dilation: 2 }),
        reference: reference({
          x: [2, 3, 1, 8],
          weight: [4, 3, 1, 3],
          stride: [1, 2],
          padding: [0, 1],
          dilation: [1, 2],
        }),
      },
      maxPool2d: {
        params: [param([B, C, H, W], 4)],
        fn: (x) => maxPool2d(x, [2, 3]),
        reference: (x) => pooled(x, (seen) => Math.max(...seen)),
      },
      avgPool2d: {
        params: [param([B, C, H, W], 5)],
        fn: (x) => avgPool2d(x, [2, 3]),
        reference: (x) => pooled(x, (seen) => seen.reduce((a, b) => a + b) / 6),
      },
    })
    /** Windows of 3 by 2 every 2 places, with a row and a column around the image of 4 by 6. */
    const around = (x: Float64Array, fold: (seen: number[], count: number) => number) => {
      const out: number[] = []
      for (let bc = 0; bc < B * C; bc++)
        for (let oh = 0; oh < 2; oh++)
          for (let ow = 0; ow < 4; ow++) {
            const seen = [0, 1, 2].flatMap((h) =>
              [0, 1].flatMap((w) => {
                const [row, column] = [2 * oh + h - 1, 2 * ow + w - 1]
                return row < 0 || row >= H || column < 0 || column >= W ? [] : [x[(bc * H + row) * W + column]!]
              }),
            )
            out.push(fold(seen, 6))
          }
      return out
    }
    const options = { stride: 2, padding: 1 }
    await expectAll(gpu, {
      "maxPool2d, padded": {
        params: [param([B, C, H, W], 6, -2, -1)],
        fn: (x) => maxPool2d(x, [3, 2], options),
        reference: (x) => around(x, (seen) => Math.max(...seen)),
      },
      "avgPool2d, padded": {
        params: [param([B, C, H, W], 7)],
        fn: (x) => avgPool2d(x, [3, 2], options),
        reference: (x) => around(x, (seen, count) => seen.reduce((a, b) => a + b, 0) / count),
      },
    })
    expect(maxPool2d(gpu.zeros([1, 1, 5, 5]), 3, { stride: 1 }).shape).toEqual([1, 1, 3, 3])
  })
})
