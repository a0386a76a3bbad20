import { computeType, isHalf, isQuantized, quantizedForm, type DType, type QuantizedForm } from "../dtype.ts"
import { reads, type BufferSpec } from "./kernel.ts"

/** How a kernel reads a buffer of one dtype, one, two or four elements at a time, as its compute type. */
export interface Reader {
  readonly buffer: BufferSpec
  /** WGSL to be declared beside `fn main`. */
  readonly declaration: string
  /** The `index`-th element, pair or vector of four. */
  readonly at: (index: string) => string
}

export type ReadWidth = 1 | 2 | 4

/** The WGSL type of `width` elements. */
export const widthType = (type: string, width: ReadWidth): string => (width === 1 ? type : `vec${width}<${type}>`)

/** A reader of the buffer `name`. */
export const reader = (name: string, dtype: DType, width: ReadWidth): Reader => {
  const type = widthType(computeType(dtype), width)
  const packed = (words: string, body: string): Reader => ({
    buffer: reads(name, words),
    declaration: `\nfn read_${name}(i: u32) -> ${type} { ${body} }`,
    at: (index) => `read_${name}(${index})`,
  })
  if (isQuantized(dtype)) return packed("u32", quantized(name, quantizedForm(dtype), width))
  if (!isHalf(dtype)) return { buffer: reads(name, type), declaration: "", at: (index) => `${name}[${index}]` }
  const pair = dtype === "f16" ? f16Pair : bf16Pair
  switch (width) {
    case 1:
      return packed("u32", `return ${pair(`${name}[i / 2u]`)}[i % 2u];`)
    case 2:
      return packed("u32", `return ${pair(`${name}[i]`)};`)
    case 4:
      return packed("vec2u", `let words = ${name}[i]; return vec4f(${pair("words.x")}, ${pair("words.y")});`)
    default:
      return width satisfies never
  }
}

const f16Pair = (word: string): string => `unpack2x16float(${word})`
const bf16Pair = (word: string): string => `bitcast<vec2f>(vec2u(${word} << 16u, ${word} & 0xffff0000u))`

/** `width` elements never lie in two words: a word holds four or eight. */
const quantized = (
  name: string,
  { bits, lowest, group, hasOffset, words, headWords }: QuantizedForm,
  width: ReadWidth,
): string => {
  const perWord = 32 / bits
  const numbers = (wgsl: (j: number) => string) => {
    const parts = Array.from({ length: width }, (_, j) => wgsl(j))
    return width === 1 ? parts[0]! : `vec${width}f(${parts.join(", ")})`
  }
  const spread = (value: string) => (width === 1 ? value : `vec${width}f(${value})`)
  const q = numbers((j) => {
    const bitsFromTop = 32 - bits - j * bits
    return lowest < 0
      ? `f32((bitcast<i32>(word) << ${bitsFromTop}u) >> ${32 - bits}u)`
      : `f32((word >> ${j * bits}u) & ${2 ** bits - 1}u)`
  })
  const value = hasOffset
    ? `fma(${q}, ${spread("scale")}, ${spread(`bitcast<f32>(${name}[block + 1u])`)})`
    : `${q} * scale`
  const shift = width === perWord ? "" : ` >> (within % ${perWord}u * ${bits}u)`
  return `let within = i * ${width}u % ${group}u; let block = i * ${width}u / ${group}u * ${words}u;
  let word = ${name}[block + ${headWords}u + within / ${perWord}u]${shift};
  let scale = bitcast<f32>(${name}[block]);
  return ${value};`
}
