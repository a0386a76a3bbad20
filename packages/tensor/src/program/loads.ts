import { computeType, type ComputeType, type DType } from "../dtype.ts"
import { accessKind, repeats, type Access } from "./access.ts"
import { reader, type Reader } from "./reader.ts"

/** Makes a parameter of the kernel and returns its expression. */
export type Field = (name: string, type: ComputeType, value: number) => string

/** The WGSL type of one element, or of four where a kernel works on four at a time. */
export const wgslType = (type: ComputeType, vector: boolean): string => (vector ? `vec4<${type}>` : type)

/** Whether an invocation that works on four elements at a time loads them as one. */
const isWide = (access: Access, vector: boolean): boolean =>
  vector && accessKind(access) !== "scalar" && !repeats(access)

/** How a kernel reads the elements of buffer `name`, a value of `dtype`. */
export const readerFor = (name: string, dtype: DType, access: Access, vector: boolean): Reader =>
  reader(name, dtype, isWide(access, vector) ? 4 : 1)

/** The WGSL that reads what item `i` needs of buffer `name` (a value of `dtype`), as its compute type. */
export const load = (name: string, dtype: DType, access: Access, vector: boolean, field: Field): string => {
  const type = computeType(dtype)
  const wide = isWide(access, vector)
  const { index, inside } = address(name, access, vector, field)
  const at = inside ? `select(0u, ${index}, ${inside})` : index
  const place = !wide ? at : accessKind(access) === "same" ? "i" : `(${at}) / 4u`
  const element = readerFor(name, dtype, access, vector).at(place)
  const value = vector && !wide ? `vec4<${type}>(${element})` : element
  if (!inside) return value
  const fill = field(`fill_${name}`, type, access.fill)
  return `select(${vector ? `vec4<${type}>(${fill})` : fill}, ${value}, ${inside})`
}

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

/**
 * `value` of compute type `from` as `to`: f32 → integer truncates and saturates, NaN is 0 there; anything but 0 is true. `$`
 * before a type stands for its width in the kernel.
 */
export const convert = (value: string, from: ComputeType, to: DType): string => {
  if (to === "bool") return `select($u32(1), $u32(0), ${value} == $${from}(0))`
  const type = computeType(to)
  if (type === from) return value
  if (from !== "f32") return `$${type}(${value})`
  return `select($${type}(${value}), $${type}(0), (bitcast<$u32>(${value}) & $u32(0x7fffffffu)) > $u32(0x7f800000u))`
}
