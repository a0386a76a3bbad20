import { isQuantized, safetensorsFromFloat32, type DType, type Gpu, type PackedType, type Tensor } from "@rlpt/tensor"
import { isValueHead, type ParameterSpec } from "./parameters.ts"
import type { Weights } from "./weights.ts"

/** How weights are kept, in transformers' words: `auto` is as the checkpoint stores them. */
export type WeightDType = "auto" | "float32" | "float16" | "bfloat16"

const dtypes = { float32: "f32", float16: "f16", bfloat16: "bf16" } as const

/**
 * What a parameter is kept as. Only matrices take space that is worth saving; heads for values start at zero and are
 * trained. Without `asked`, what is frozen is as it is stored, and what is trained f32.
 */
export const wantedDType = (
  { name, shape }: ParameterSpec,
  isTrained: boolean,
  asked: WeightDType = isTrained ? "float32" : "auto",
): DType | "as stored" => {
  if (shape.length < 2 || isValueHead(name)) return "f32"
  return asked === "auto" ? "as stored" : dtypes[asked]
}

/**
 * What a parameter that is kept as stored becomes. Parts of one dtype keep it; those of several quantised ones become the
 * 8-bit type that holds all of them; others f32.
 *
 * @throws RangeError for a quantised parameter that is to be trained
 */
export const storedDType = ({ name, parts }: ParameterSpec, isTrained: boolean, weights: Weights): DType => {
  const [first, ...others] = new Set(parts.map((part) => weights.storedAs(part)))
  const dtype = others.length === 0 ? first! : common([first!, ...others])
  if (isTrained && isQuantized(dtype)) {
    const problem = `"auto" would keep ${name} quantised, and it is to be trained`
    throw new RangeError(`dtype: ${problem}: use float32, bfloat16 or float16, or train an adapter (lora)`)
  }
  return dtype
}

const common = (stored: ReadonlyArray<DType>): DType => {
  if (!stored.every(isQuantized)) return "f32"
  const groups = stored.map((dtype) => Number(dtype.split(":")[1]))
  const hasOffset = stored.some((dtype) => dtype.endsWith(":offset"))
  return `int8:${Math.min(...groups)}${hasOffset ? ":offset" : ""}`
}

/** From here on a number is infinite as float16. */
const float16Limit = 65_520

/**
 * A parameter on the GPU from float32 values, rounded to `dtype`.
 *
 * @throws RangeError for a value that float16 does not reach
 */
export const fromFloats = (
  gpu: Gpu,
  values: Float32Array<ArrayBuffer>,
  { name, shape }: ParameterSpec,
  dtype: DType,
): Tensor => {
  if (dtype !== "f16" && dtype !== "bf16") return gpu.tensor(values, shape, "parameters")
  const beyond = dtype === "f16" ? values.find((value) => Math.abs(value) >= float16Limit) : undefined
  if (beyond !== undefined)
    throw new RangeError(`dtype: ${name} holds ${beyond}, and float16 ends at 65504: use bfloat16 or float32`)
  const { data } = safetensorsFromFloat32(values, shape, dtype === "f16" ? "F16" : "BF16")
  return fromBytes(gpu, Uint8Array.from(data), shape, dtype)
}

/** A parameter on the GPU from the bytes of a packed dtype. */
export const fromBytes = (
  gpu: Gpu,
  bytes: Uint8Array<ArrayBuffer>,
  shape: ReadonlyArray<number>,
  dtype: PackedType,
): Tensor => {
  const { buffer, byteOffset, byteLength } = bytes
  return isQuantized(dtype)
    ? gpu.quantized(new Uint32Array(buffer, byteOffset, byteLength / 4), shape, dtype, "parameters")
    : gpu.half(new Uint16Array(buffer, byteOffset, byteLength / 2), shape, dtype, "parameters")
}
