import { readSafetensors, safetensorsFromFloat32, safetensorsToArray, writeSafetensors } from "../io/safetensors.ts"
import type { SafetensorsTensor } from "../io/safetensors.ts"
import type { HostTensor, Module } from "./module.ts"

/** A module, whatever it takes and gives. */
type AnyModule = Pick<Module, "stateDict" | "loadStateDict">

/**
 * All parameters of a module as the bytes of a safetensors file, each of the type that it has: F32, F16, BF16, I32, U32 or
 * BOOL. Quantised ones are written as the F32 that they stand for.
 */
export const toSafetensors = async (module: AnyModule): Promise<Uint8Array<ArrayBuffer>> => {
  const state = Object.entries(await module.stateDict())
  return writeSafetensors(new Map(state.map(([name, tensor]) => [name, stored(tensor)])))
}

/**
 * Overwrites all parameters of a module with those of a safetensors file, `file` by name. Parameters of f32, f16 and bf16
 * take floats of every size up to 64 bits, i32 takes signed whole numbers, u32 and bool unsigned ones and BOOL.
 */
export const fromSafetensors = (module: AnyModule, bytes: Uint8Array, file: string): void => {
  const tensors = [...readSafetensors(bytes, file).tensors]
  module.loadStateDict(
    Object.fromEntries(
      tensors.map(([name, tensor]) => [
        name,
        { shape: tensor.shape, data: safetensorsToArray(tensor, { name, file }) },
      ]),
    ),
  )
}

const halves = { f16: "F16", bf16: "BF16" } as const

const stored = ({ shape, data, dtype }: HostTensor): SafetensorsTensor => {
  if (data instanceof Float32Array)
    return safetensorsFromFloat32(data, shape, dtype === "f16" || dtype === "bf16" ? halves[dtype] : "F32")
  if (dtype === "bool") return { dtype: "BOOL", shape, data: Uint8Array.from(data, (value) => Number(value !== 0)) }
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
  return { dtype: data instanceof Int32Array ? "I32" : "U32", shape, data: bytes }
}
