import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { openDevice, readSafetensors, safetensorsToFloat32, type Gpu } from "@rlpt/tensor"
import { afterAll, beforeAll, expect, test } from "vitest"
import { exportModel, loadModel } from "../../src/index.ts"
import { fixtures, maxDifference, pack } from "../fixtures.ts"

let gpu: Gpu
beforeAll(async () => {
  gpu = await openDevice()
})
afterAll(() => gpu.destroy())

const directory = join(fixtures, "gguf-models")
const names = readdirSync(directory).flatMap((file) => (file.endsWith(".gguf") ? [file.slice(0, -5)] : []))

test.each(names)(
  "%s, as llama.cpp converts it, gives the logits of transformers, and so does its export",
  async (name) => {
    const { tensors } = readSafetensors(new Uint8Array(readFileSync(join(directory, `${name}.safetensors`))), name)
    const tokens = new Int32Array(tensors.get("tokens")!.data.slice().buffer)
    const expected = safetensorsToFloat32(tensors.get("logits")!)

    // The tokens are more than the original context of Phi 4, whose frequencies are others beyond it.
    const options = { contextLength: 24 }
    const model = await loadModel(gpu, join(directory, `${name}.gguf`), options)
    const logits = await logitsOf(model, tokens)
    expect(maxDifference(logits, expected)).toBeLessThan(1e-4)

    const again = await loadModel(gpu, await exportModel(model), options)
    expect(again.config).toEqual(model.config)
    expect(await logitsOf(again, tokens)).toEqual(logits)
    model.dispose()
    again.dispose()
  },
)

const logitsOf = ({ decoder, parameters }: Awaited<ReturnType<typeof loadModel>>, tokens: Int32Array) =>
  decoder.logits(parameters, decoder.hidden(parameters, pack(gpu, [tokens]))).data()
