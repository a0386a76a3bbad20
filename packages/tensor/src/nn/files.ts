import { readSafetensors, safetensorsFromFloat32, safetensorsToFloat32, writeSafetensors } from "../io/safetensors.ts"
import type { Module } from "./module.ts"

/** A module, whatever it takes and gives. */
type AnyModule = Pick<Module, "stateDict" | "loadStateDict">

/** All parameters of a module as the bytes of a safetensors file. */
export const toSafetensors = async (module: AnyModule): Promise<Uint8Array<ArrayBuffer>> => {
  const state = Object.entries(await module.stateDict())
  return writeSafetensors(
    new Map(state.map(([name, { shape, data }]) => [name, safetensorsFromFloat32(Float32Array.from(data), shape)])),
  )
}

/** Overwrites all parameters of a module with those of a safetensors file (F32, F16 or BF16), `file` by name. */
export const fromSafetensors = (module: AnyModule, bytes: Uint8Array, file: string): void => {
  const tensors = [...readSafetensors(bytes, file).tensors]
  module.loadStateDict(
    Object.fromEntries(
      tensors.map(([name, tensor]) => [
        name,
        { shape: tensor.shape, data: Float32Array.from(safetensorsToFloat32(tensor)) },
      ]),
    ),
  )
}
