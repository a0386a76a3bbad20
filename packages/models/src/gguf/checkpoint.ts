import type { Checkpoint } from "../checkpoint.ts"
import { ModelError } from "../errors.ts"
import { memorySource, type FileReader } from "../files.ts"
import { architectureOf, configFromGguf } from "./config.ts"
import { Metadata } from "./metadata.ts"
import { readGgufHeader } from "./reader.ts"
import { tokenizerFromGguf } from "./tokenizer.ts"
import { GgufWeights, readGgufTensor, ROPE_FACTORS } from "./weights.ts"

/**
 * A GGUF file as the Hugging Face directory it was made from: the JSON files are derived from its metadata.
 *
 * @param open opens the file anew
 * @param path the name that errors carry
 */
export const openGguf = async (open: () => Promise<FileReader>, path: string): Promise<Checkpoint> => {
  const reader = await open()
  try {
    const { metadata: values, tensors } = await readGgufHeader(reader, path)
    const metadata = new Metadata(values, path)
    const splits = metadata.number("split.count") ?? 1
    if (splits > 1) {
      const problem = `is one of ${splits} parts; join them with llama.cpp's "llama-gguf-split --merge" first`
      throw new ModelError("unsupported", path, problem)
    }
    const ropeFactors: Record<string, ReadonlyArray<number>> = {}
    for (const name of ROPE_FACTORS) {
      const factors = tensors.get(name)
      if (factors !== undefined) ropeFactors[name] = Array.from(await readGgufTensor(reader, factors))
    }
    const { config, generation } = configFromGguf(metadata, tensors, ropeFactors, path)
    const tokenizer = tokenizerFromGguf(metadata, path)
    const heads = (key: string) => Number(config[key] ?? config["num_attention_heads"])
    return {
      files: memorySource(
        {
          "config.json": json(config),
          "generation_config.json": json(generation),
          ...(tokenizer && {
            "tokenizer.json": json(tokenizer.tokenizer),
            "tokenizer_config.json": json(tokenizer.config),
          }),
        },
        (file) => `${path} (${file})`,
      ),
      openWeights: async () =>
        new GgufWeights(path, await open(), tensors, architectureOf(metadata, path), {
          queries: heads("num_attention_heads"),
          keys: heads("num_key_value_heads"),
        }),
    }
  } finally {
    await reader.close()
  }
}

const json = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value))
