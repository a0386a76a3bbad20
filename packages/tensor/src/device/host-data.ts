import { sizeOf, type HostArray, type Shape } from "../dtype.ts"
import { ShapeError } from "../errors.ts"

/** A number, or lists of lists of numbers. */
export type Nested = number | readonly Nested[]

const noNumber = (data: unknown): ShapeError =>
  new ShapeError(
    "tensor",
    `takes numbers, lists of them and typed arrays, not the ${typeof data} ${String(data)}${typeof data === "boolean" ? ': cast numbers to "bool"' : ""}`,
  )

/** `data` as one array, with the shape that it has by itself. Numbers and lists become f32. */
export const hostData = (data: HostArray | Nested): { readonly array: HostArray; readonly shape: Shape } => {
  if (typeof data !== "number" && typeof data !== "object") throw noNumber(data)
  if (ArrayBuffer.isView(data)) {
    const known = data instanceof Float32Array || data instanceof Int32Array || data instanceof Uint32Array
    if (!known)
      throw new ShapeError(
        "tensor",
        `a ${(data as object).constructor.name} is no array of f32, i32 or u32: convert it first`,
      )
    return { array: data, shape: [data.length] }
  }
  const shape: number[] = []
  for (let level: Nested | undefined = data; Array.isArray(level); level = level[0]) shape.push(level.length)
  const array = new Float32Array(sizeOf(shape))
  let end = 0
  const fill = (level: Nested, depth: number): void => {
    if (typeof level !== "number" && !Array.isArray(level)) throw noNumber(level)
    if (typeof level === "number" ? depth !== shape.length : level.length !== shape[depth])
      throw new ShapeError(
        "tensor",
        `lists of one depth must have one length: [${shape.join(", ")}] does not hold for all`,
      )
    if (typeof level === "number") array[end++] = level
    else for (const inner of level) fill(inner, depth + 1)
  }
  fill(data, 0)
  return { array, shape }
}
