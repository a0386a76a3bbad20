import type { EngineState } from "@rlpt/core"
import type { Parameters } from "@rlpt/models"
import {
  readSafetensors,
  safetensorsFromFloat32,
  safetensorsToFloat32,
  writeSafetensors,
  type Gpu,
  type Tensor,
} from "@rlpt/tensor"

type Tensors = Readonly<Record<string, Tensor>>

const files = { weights: "weights.safetensors", optimizer: "optimizer.safetensors" } as const

/** The weights that are trained and the optimiser, bit for bit, as safetensors by file name. */
export const exportTrainState = async (gpu: Gpu, parameters: Parameters, optimizer: Tensors): Promise<EngineState> => ({
  files: {
    [files.weights]: await write(gpu, parameters),
    [files.optimizer]: await write(gpu, optimizer),
  },
})

/** The inverse of {@link exportTrainState}. Everything is checked before anything is overwritten. */
export const restoreTrainState = (gpu: Gpu, parameters: Parameters, optimizer: Tensors, state: EngineState): void => {
  const writes = [...read(files.weights, state, parameters), ...read(files.optimizer, state, optimizer)]
  for (const { tensor, values } of writes) gpu.write(tensor, values)
}

const write = async (gpu: Gpu, tensors: Tensors): Promise<Uint8Array> => {
  const arrays = await gpu.readAll(Object.values(tensors))
  const entries = Object.entries(tensors).map(
    ([name, { shape }], i) => [name, safetensorsFromFloat32(arrays[i] as Float32Array, shape, "F32")] as const,
  )
  return writeSafetensors(new Map(entries))
}

const read = (file: string, state: EngineState, tensors: Tensors) => {
  const bytes = state.files[file]
  if (!bytes) throw new Error(`the checkpoint has no ${file}`)
  const stored = readSafetensors(bytes, file).tensors
  return Object.entries(tensors).map(([name, tensor]) => {
    const found = stored.get(name)
    if (!found || found.shape.join() !== tensor.shape.join())
      throw new Error(
        `${file}: ${name} ${found ? `has shape [${found.shape.join(", ")}]` : "is missing"}, the model needs [${tensor.shape.join(", ")}]; was the model of the run changed?`,
      )
    return { tensor, values: Float32Array.from(safetensorsToFloat32(found)) }
  })
}
