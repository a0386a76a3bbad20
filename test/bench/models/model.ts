import { characterTokenizer, loadModel, saveModel, type ModelFiles } from "@rlpt/models"
import { openDevice } from "@rlpt/tensor"

const json = (value: unknown) => new TextEncoder().encode(JSON.stringify(value))

/** Files of a model without weights: its config, and a tokenizer with a character for every id. */
export const modelFiles = (config: { readonly vocab_size: number }): ModelFiles => {
  const characters = Array.from({ length: config.vocab_size - 2 }, (_, i) => String.fromCodePoint(0x4e00 + i))
  const tokenizer = characterTokenizer(characters, { bos: "<s>", eos: "</s>" })
  return {
    "config.json": json(config),
    "tokenizer.json": json(tokenizer.tokenizer),
    "tokenizer_config.json": json(tokenizer.config),
  }
}

/** Draws weights and writes the model as transformers reads it. */
export const writeModel = async (config: { readonly vocab_size: number }, directory: string): Promise<void> => {
  const gpu = await openDevice()
  try {
    await saveModel(await loadModel(gpu, modelFiles(config), { fromScratch: { seed: 1 } }), directory)
  } finally {
    gpu.destroy()
  }
}
