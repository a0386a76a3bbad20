import { showShape, sizeOf, type Shape } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import { applyFusedOne } from "../graph/apply.ts"
import type { FusedOp } from "../graph/fused-op.ts"
import type { Tensor } from "../graph/tensor.ts"
import { gridFor, perItem, reads, writes, type Kernel } from "../program/kernel.ts"

/** Height and width. */
export type Pair = readonly [height: number, width: number]

/** How a window moves over an image, or along a row of it: two numbers each, or one. */
export interface Window {
  readonly size: readonly number[]
  readonly stride: readonly number[]
  readonly padding: readonly number[]
  readonly dilation: readonly number[]
  /** Channels are divided into so many groups. */
  readonly groups: number
}

interface Attributes extends Window {
  /** Of the image: [batch, channels, height, width]. */
  readonly shape: Shape
}

/** Places of the window along one direction. */
const placesAlong = (window: Window, length: number, direction: number): number => {
  const extent = window.dilation[direction]! * (window.size[direction]! - 1) + 1
  return Math.floor((length + 2 * window.padding[direction]! - extent) / window.stride[direction]!) + 1
}

/** Rows and columns that a window makes of an image of `shape`, or a `ShapeError` of `operation`. */
export const placesOf = (operation: string, shape: Shape, window: Window): readonly number[] => {
  const [, channels, ...lengths] = shape
  const { size, stride, padding, dilation, groups } = window
  if (lengths.length !== size.length)
    throw new ShapeError(operation, `needs [B, C, ${size.length === 1 ? "L" : "H, W"}], got ${showShape(shape)}`)
  for (const [name, least, numbers] of [
    ["size", 1, size],
    ["stride", 1, stride],
    ["padding", 0, padding],
    ["dilation", 1, dilation],
    ["groups", 1, [groups]],
  ] as const)
    if (numbers.some((n) => !Number.isInteger(n) || n < least))
      throw new ShapeError(operation, `${name} is ${numbers.join(" × ")}: it must be whole, and at least ${least}`)
  if (channels! % groups !== 0)
    throw new ShapeError(operation, `${groups} groups do not divide the channels of ${showShape(shape)}`)
  const places = lengths.map((length, direction) => placesAlong(window, length, direction))
  if (places.some((count) => count < 1))
    throw new ShapeError(
      operation,
      `a window of ${window.size.join(" × ")} is larger than ${showShape(shape)} with its padding`,
    )
  return places
}

const params = Object.fromEntries(
  // Of the image: channels per group, height, width. Of the window: size, places, stride, padding, dilation, each (h, w).
  ["items", "batch", "groups", "C", "H", "W", "KH", "KW", "OH", "OW", "SH", "SW", "PH", "PW", "DH", "DW"].map(
    (name) => [name, "u32"] as const,
  ),
)

const values = (
  items: number,
  { shape, size, stride, padding, dilation, groups }: Attributes,
  places: readonly number[],
) => {
  const [batch, channels, height, width] = shape as [number, number, number, number]
  return [
    items,
    batch,
    groups,
    channels / groups,
    height,
    width,
    ...size,
    ...places,
    ...stride,
    ...padding,
    ...dilation,
  ]
}

const unfoldKernel: Kernel = {
  name: "unfold",
  params,
  buffers: [reads("x"), writes("out")],
  body: () => `${perItem(64, "p.items")}
  var rest = i;
  let kw = rest % p.KW; rest /= p.KW;
  let kh = rest % p.KH; rest /= p.KH;
  let c = rest % p.C; rest /= p.C;
  let ow = rest % p.OW; rest /= p.OW;
  let oh = rest % p.OH; rest /= p.OH;
  let b = rest % p.batch; let g = rest / p.batch;
  // Left of the image the difference wraps around and is far beyond it.
  let h = oh * p.SH + kh * p.DH - p.PH;
  let w = ow * p.SW + kw * p.DW - p.PW;
  let inside = h < p.H && w < p.W;
  let at = ((b * p.groups * p.C + g * p.C + c) * p.H + h) * p.W + w;
  out[i] = select(0.0, x[select(0u, at, inside)], inside);
}`,
}

/** One invocation per element of the image adds up the windows that see it, in order. */
const foldKernel: Kernel = {
  name: "fold",
  params,
  buffers: [reads("x"), writes("out")],
  body: () => `${perItem(64, "p.items")}
  let w = i % p.W; let h = (i / p.W) % p.H;
  let channel = (i / (p.W * p.H)) % (p.groups * p.C); let b = i / (p.W * p.H * p.groups * p.C);
  let g = channel / p.C; let c = channel % p.C;
  var total = 0.0;
  for (var kh = 0u; kh < p.KH; kh++) {
    let y = h + p.PH - kh * p.DH;
    let oh = y / p.SH;
    if (kh * p.DH > h + p.PH || y % p.SH != 0u || oh >= p.OH) { continue; }
    for (var kw = 0u; kw < p.KW; kw++) {
      let z = w + p.PW - kw * p.DW;
      let ow = z / p.SW;
      if (kw * p.DW > w + p.PW || z % p.SW != 0u || ow >= p.OW) { continue; }
      total += x[((((g * p.batch + b) * p.OH + oh) * p.OW + ow) * p.C + c) * p.KH * p.KW + kh * p.KW + kw];
    }
  }
  out[i] = total;
}`,
}

const columnsShape = (attributes: Attributes): Shape => {
  const [batch, channels] = attributes.shape as [number, number]
  const { groups, size } = attributes
  const places = placesOf("unfold", attributes.shape, attributes)
  return [groups, batch * sizeOf(places), (channels / groups) * sizeOf(size)]
}

const unfoldOp: FusedOp<Attributes> = {
  name: "unfold",
  infer: ([x], attributes) => {
    if (x!.dtype !== "f32") throw new ShapeError("unfold", `needs f32, got ${x!.dtype}`)
    return [{ shape: columnsShape(attributes), dtype: "f32" }]
  },
  lower: (emit, [x], [out], attributes) => {
    const items = sizeOf(out!.spec.shape)
    emit.launch(
      unfoldKernel,
      [x!, out!],
      values(items, attributes, placesOf("unfold", attributes.shape, attributes)),
      gridFor(items, 64),
    )
  },
  backward: ({ grads: [g], attributes }) => [applyFusedOne(foldOp, [g!], attributes)],
}

const foldOp: FusedOp<Attributes> = {
  name: "fold",
  infer: (_, { shape }) => [{ shape, dtype: "f32" }],
  lower: (emit, [x], [out], attributes) => {
    const items = sizeOf(attributes.shape)
    emit.launch(
      foldKernel,
      [x!, out!],
      values(items, attributes, placesOf("unfold", attributes.shape, attributes)),
      gridFor(items, 64),
    )
  },
  backward: ({ grads: [g], attributes }) => [applyFusedOne(unfoldOp, [g!], attributes)],
}

/**
 * What a window sees at each of its places, a row each: x [B, C, H, W] becomes [groups, B·rows·columns, C/groups·h·w],
 * 0 outside of the image; [B, C, L] is an image of one row. Its gradient adds up what each element was seen as.
 */
export const unfold = (x: Tensor, window: Window): Tensor => {
  if (x.shape.length === 4) return applyFusedOne(unfoldOp, [x], { ...window, shape: x.shape })
  const { size, stride, padding, dilation, groups } = window
  const inRow = { size: [1, ...size], stride: [1, ...stride], padding: [0, ...padding], dilation: [1, ...dilation] }
  return unfold(x.unsqueeze(2), { ...inRow, groups })
}
