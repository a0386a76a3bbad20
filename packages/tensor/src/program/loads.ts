import { computeType, isHalf, type ComputeType, type DType } from "../dtype.ts"
import { accessKind, repeats, type Access } from "./access.ts"

/** Makes a parameter of the kernel and returns its expression. */
export type Field = (name: string, type: ComputeType, value: number) => string

/** The WGSL type of one element, or of four where a kernel works on four at a time. */
export const wgslType = (type: ComputeType, vector: boolean): string => (vector ? `vec4<${type}>` : type)

/** Whether an invocation that works on four elements at a time loads them as one. */
const isWide = (access: Access, vector: boolean): boolean =>
  vector && accessKind(access) !== "scalar" && !repeats(access)

/** Element type of the buffer that a read of `dtype` is bound as. */
export const bufferType = (dtype: DType, access: Access, vector: boolean): string => {
  const wide = isWide(access, vector)
  if (isHalf(dtype)) return wide ? "vec2u" : "u32"
  return wgslType(computeType(dtype), wide)
}

/** The WGSL that reads what item `i` needs of buffer `name` (a value of `dtype`), as its compute type. */
export const load = (name: string, dtype: DType, access: Access, vector: boolean, field: Field): string => {
  const type = computeType(dtype)
  const wide = isWide(access, vector)
  const { index, inside } = address(name, access, vector, field)
  const at = inside ? `select(0u, ${index}, ${inside})` : index
  const element = wide ? decodeFour(dtype, wideElement(name, access, at)) : decodeOne(dtype, name, at)
  const value = vector && !wide ? `vec4<${type}>(${element})` : element
  if (!inside) return value
  const fill = field(`fill_${name}`, type, access.fill)
  return `select(${vector ? `vec4<${type}>(${fill})` : fill}, ${value}, ${inside})`
}

const wideElement = (name: string, access: Access, at: string): string =>
  accessKind(access) === "same" ? `${name}[i]` : `${name}[(${at}) / 4u]`

/** The element that item `i` reads, and the condition under which there is one. */
const address = (name: string, access: Access, vector: boolean, field: Field) => {
  const { axes, offset } = access
  const start = offset === 0 ? [] : [field(`o_${name}`, "u32", offset)]
  const first = vector ? "i * 4u" : "i"
  if (accessKind(access) === "same") return { index: first }
  if (accessKind(access) === "scalar") return { index: start[0] ?? "0u" }
  const terms = [...start]
  const conditions: string[] = []
  let rest = `(${first})`
  for (let k = axes.length - 1; k >= 0; k--) {
    const { dim, stride, guard } = axes[k]!
    let at = rest
    if (k > 0) {
      const size = field(`d${k}_${name}`, "u32", dim)
      at = `(${rest} % ${size})`
      rest = `(${rest} / ${size})`
    }
    if (guard) {
      // Below `low` the difference wraps around and is far beyond every extent.
      at = `(${at} - ${field(`l${k}_${name}`, "u32", guard.low)})`
      conditions.push(`${at} < ${field(`e${k}_${name}`, "u32", guard.count * guard.step)}`)
      if (guard.step !== 1) {
        const step = field(`t${k}_${name}`, "u32", guard.step)
        conditions.push(`${at} % ${step} == 0u`)
        at = `(${at} / ${step})`
      }
    }
    if (stride !== 0) terms.push(`${at} * ${field(`s${k}_${name}`, "u32", stride)}`)
  }
  return { index: terms.join(" + ") || "0u", inside: conditions.join(" && ") || undefined }
}

/** One element of a buffer as its compute type. */
const decodeOne = (dtype: DType, name: string, at: string): string => {
  if (dtype === "f16") return `unpack2x16float(${name}[(${at}) / 2u])[(${at}) % 2u]`
  if (dtype === "bf16") return `bitcast<f32>((${name}[(${at}) / 2u] >> (16u * ((${at}) % 2u))) << 16u)`
  return `${name}[${at}]`
}

/** Four elements, read as `element`, as a vec4 of their compute type. */
const decodeFour = (dtype: DType, element: string): string => {
  if (dtype === "f16") return `vec4f(unpack2x16float(${element}.x), unpack2x16float(${element}.y))`
  if (dtype === "bf16")
    return `bitcast<vec4f>(vec4u(${element}.x << 16u, ${element}.x & 0xffff0000u, ${element}.y << 16u, ${element}.y & 0xffff0000u))`
  return element
}

/**
 * `value` of compute type `from` as `to`: f32 → integer truncates and saturates; anything but 0 is true. `$` before a type
 * stands for its width in the kernel.
 */
export const convert = (value: string, from: ComputeType, to: DType): string => {
  if (to === "bool") return `select($u32(0), $u32(1), ${value} != $${from}(0))`
  return computeType(to) === from ? value : `$${computeType(to)}(${value})`
}
